r"""Access logs of AWS load balancers: Application and Classic. PURE.

Sources: "Access logs for your Application Load Balancer", "Access logs for your Classic Load Balancer". The
request line names an absolute URL with its port, also in HTTP/2; a request that could not be read is
`- http://name:port- -`. Quotes are `\x22`.
"""

from __future__ import annotations

from scheduler.logs.formats.regex_format import RegexFormat

# type time elb client target times… elb_status target_status received sent "request" "agent" cipher protocol
# arn "trace" "domain" "certificate" priority created "actions" …
ALB = RegexFormat(
    "alb",
    rb"(?:https?|h2|grpcs|wss?) (?P<time>\d{4}-\d\d-\d\dT[\d:.]++Z) \S+/\S+ \S+:\d+ \S+ (?:-?[\d.]+ ){3}"
    rb'(?P<status>\d{3}|-) (?:\d{3}|-) \d+ \d+ "(?P<request>[^"]*+)" "(?P<agent>[^"]*+)" \S+ \S+ \S+ '
    rb'"(?P<id>[^"]*+)" .*',
    before=b" ",
    after=b" ",
    line_limit_bytes=256 * 1024,
)

# time elb client backend times… elb_status backend_status received sent "request" "agent" cipher protocol
CLASSIC = RegexFormat(
    "elb",
    rb"(?P<time>\d{4}-\d\d-\d\dT[\d:.]++Z) [^\s/]+ \S+:\d+ (?:\S+:\d+|-) (?:-?[\d.]+ ){3}"
    rb'(?P<status>\d{3}|-) (?:\d{1,3}|-) \d+ \d+ "(?P<request>[^"]*+)"(?: "(?P<agent>.*)" \S+ \S+)?',
    before=b" ",
    after=b" ",
    line_limit_bytes=256 * 1024,
)
