-- What wrk counted, as one line of JSON after its own text. Times are in microseconds.
-- Does not: look at answers one by one; that would slow the generator down.

done = function(summary, latency, requests)
   local e = summary.errors
   local numbers = {
      string.format('"requests":%d', summary.requests),
      string.format('"duration_us":%d', summary.duration),
      string.format('"bytes":%d', summary.bytes),
      string.format('"connect_errors":%d', e.connect),
      string.format('"read_errors":%d', e.read),
      string.format('"write_errors":%d', e.write),
      string.format('"non_2xx":%d', e.status),
      string.format('"timeouts":%d', e.timeout),
      string.format('"p50_us":%d', latency:percentile(50)),
      string.format('"p90_us":%d', latency:percentile(90)),
      string.format('"p99_us":%d', latency:percentile(99)),
      string.format('"max_us":%d', latency.max),
   }
   io.write("{", table.concat(numbers, ","), "}\n")
end
