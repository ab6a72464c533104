-- Requests in batches: as many as the first argument says (16) go out in one write.
-- Does not: vary them.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "report.lua")

init = function(args)
   local depth = tonumber(args[1]) or 16
   local one = wrk.format()
   local batch = {}
   for i = 1, depth do
      batch[i] = one
   end
   all = table.concat(batch)
end

request = function()
   return all
end
