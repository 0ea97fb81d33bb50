-- SPDX-License-Identifier: MIT
-- wrk script: counts the answers by status and prints one line of name=value pairs at the end.
-- For one wrk thread. "broken" are connections that ended before a call on them was answered.
-- Each connection pauses between calls, so that there is time to kill somebody in the middle.
local pause_ms = 2
local worker

function setup(thread)
  worker = thread
end

function init()
  admitted, denied, other = 0, 0, 0
end

function delay()
  return pause_ms
end

function response(status)
  if status == 200 then
    admitted = admitted + 1
  elseif status == 429 then
    denied = denied + 1
  else
    other = other + 1
  end
end

function done(summary)
  io.write(string.format("\nresult admitted=%d denied=%d other=%d broken=%d\n",
    worker:get("admitted"), worker:get("denied"), worker:get("other"),
    summary.errors.read + summary.errors.write))
end
