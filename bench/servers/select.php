<?php
// select.php - one process and select(2), as tutorials in PHP write it: one read is one request.
// Does not: parse, end a connection by itself, bear with a client that does not read. Blocking
// clients, no deadlines, no limits, an interrupted select not looked for: that is what it is for.
// Sources: php.net/stream_select, select(2).
$port = 0;
foreach (array_slice($argv, 1) as $i => $word)   // other options are for others
    if ($word === '--port')
        $port = $argv[$i + 2];

$options = stream_context_create(['socket' => ['backlog' => 4096]]);
$listener = stream_socket_server("tcp://127.0.0.1:$port", $errno, $error,
                                 STREAM_SERVER_BIND | STREAM_SERVER_LISTEN, $options);
if (!$listener) {
    fwrite(STDERR, "select.php: $error\n");
    exit(1);
}
printf("select.php: listening on %s (pid %d)\n", stream_socket_get_name($listener, false), getmypid());

$body = 'hello world!';
$answer = "HTTP/1.1 200 OK\r\nContent-Type: text/html;charset=UTF-8\r\n"
    . "Connection: keep-alive\r\nContent-Length: " . strlen($body) . "\r\n\r\n" . $body;
$open = [(int)$listener => $listener];
while (true) {
    $readable = $open;
    $writable = $failed = [];
    stream_select($readable, $writable, $failed, 60);
    foreach ($readable as $id => $one) {
        if ($one === $listener) {
            $client = stream_socket_accept($listener);
            $open[(int)$client] = $client;
            continue;
        }
        $bytes = fread($one, 65536);
        if ($bytes === '' || $bytes === false) {
            unset($open[$id]);
            fclose($one);
        } else {
            fwrite($one, $answer);
        }
    }
}
