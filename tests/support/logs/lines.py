"""Log lines as the programs write them, from an event: the other half of `parse(format(event)) == event`."""

# ruff: noqa: E501 -- lines as programs write them read best unbroken

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import quote

import orjson


@dataclass(frozen=True)
class Wanted:
    """A request to be logged. `target` is raw: what stood in the request line."""

    key: str = "a.txt"
    target: bytes = b"/a.txt"
    method: str = "GET"
    status: int = 404
    at: int = 1795233395
    host: str = "img.example"
    bucket: str = "site"
    agent: str = "curl/8.5.0"
    referer: str = ""


def target_of(key: str, query: str = "") -> bytes:
    """The request target of a client that encodes as little as it may."""
    target = quote(key, safe="/!$&'()*+,;=:@~-._")
    return f"/{target}{'?' + query if query else ''}".encode()


def clf(at: int) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))


def iso(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def nginx_escape(value: bytes) -> bytes:
    return b"".join(
        b"\\x%02X" % one if one < 32 or one > 126 or one in b'"\\' else bytes([one]) for one in value
    )


def apache_escape(value: bytes) -> bytes:
    out = []
    for one in value:
        if one in b'"\\':
            out.append(b"\\" + bytes([one]))
        elif one < 32 or one > 126:
            out.append(b"\\x%02x" % one)
        else:
            out.append(bytes([one]))
    return b"".join(out)


def haproxy_escape(value: bytes) -> bytes:
    return b"".join(
        b"#%02X" % one if one < 32 or one > 126 or one in b'"#' else bytes([one]) for one in value
    )


def _combined(event: Wanted, escape, target: bytes | None = None) -> bytes:
    request = event.method.encode() + b" " + (event.target if target is None else target) + b" HTTP/1.1"
    return b'127.0.0.1 - - [%s] "%s" %d 153 "%s" "%s"' % (
        clf(event.at).encode(), escape(request), event.status, escape(event.referer.encode() or b"-"),
        escape(event.agent.encode()),
    )  # fmt: skip


def nginx(event: Wanted) -> bytes:
    return _combined(event, nginx_escape)


def apache(event: Wanted) -> bytes:
    return _combined(event, apache_escape)


def apache_common(event: Wanted) -> bytes:
    return apache(event).split(b' 153 "')[0] + b" 153"


def varnish(event: Wanted) -> bytes:
    return _combined(event, apache_escape, b"http://" + event.host.encode() + b":80" + event.target)


def traefik(event: Wanted) -> bytes:
    return _combined(event, apache_escape) + b' 17 "r@file" "http://10.0.0.1:80" 2ms'


def envoy(event: Wanted) -> bytes:
    return b'[%s] "%s %s HTTP/1.1" %d NR 0 0 0 - "-" "%s" "7f2d" "%s" "-"' % (
        iso(event.at).replace("Z", ".123Z").encode(), event.method.encode(), event.target, event.status,
        event.agent.encode(), event.host.encode(),
    )  # fmt: skip


def haproxy(event: Wanted) -> bytes:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S.587", time.localtime(event.at)).encode()
    request = event.method.encode() + b" " + event.target + b" HTTP/1.1"
    return (
        b"<134>Nov 21 03:56:35 haproxy[10528]: 127.0.0.1:41918 [%s] web~ store/s1 0/0/0/1/1 %d 283 - - ---- "
        b'1/1/0/0/0 0/0 {img.example|x} {} "%s"' % (stamp, event.status, haproxy_escape(request))
    )


def caddy(event: Wanted) -> bytes:
    return orjson.dumps({
        "level": "info", "ts": event.at + 0.25, "logger": "http.log.access.log0", "msg": "handled request",
        "request": {
            "remote_ip": "127.0.0.1", "proto": "HTTP/1.1", "method": event.method, "host": f"{event.host}:443",
            "uri": event.target.decode(), "headers": {"User-Agent": [event.agent]},
        },
        "duration": 0.0001, "size": 0, "status": event.status,
    })  # fmt: skip


def traefik_json(event: Wanted) -> bytes:
    return orjson.dumps({
        "DownstreamStatus": event.status, "RequestHost": event.host, "RequestMethod": event.method,
        "RequestPath": event.target.decode(), "RequestScheme": "https", "StartUTC": iso(event.at),
        "request_User-Agent": event.agent,
    })  # fmt: skip


def envoy_json(event: Wanted) -> bytes:
    return orjson.dumps({
        "start_time": iso(event.at), "method": event.method, "path": event.target.decode(),
        "response_code": event.status, "authority": event.host, "user_agent": event.agent,
    })  # fmt: skip


def s3(event: Wanted) -> bytes:
    key = quote(quote(event.key, safe="/"), safe="/")
    return (
        b"79a59df9 %s [%s] 192.0.2.3 arn:aws:iam::1:user/x 3E57427F3EXAMPLE REST.%s.OBJECT %s "
        b'"%s /%s%s HTTP/1.1" %d NoSuchKey 113 - 7 - "-" "%s" - hostid= SigV4 ECDHE-RSA-AES128-GCM-SHA256 '
        b"AuthHeader s3.eu-west-1.amazonaws.com TLSv1.2 - -"
        % (
            event.bucket.encode(), clf(event.at).encode(), event.method.encode(), key.encode(),
            event.method.encode(), event.bucket.encode(), event.target, event.status, event.agent.encode(),
        )
    )  # fmt: skip


def cloudfront(event: Wanted) -> bytes:
    path, _, query = event.target.decode().partition("?")
    columns = [
        time.strftime("%Y-%m-%d", time.gmtime(event.at)), time.strftime("%H:%M:%S", time.gmtime(event.at)),
        "FRA56-P1", "919", "192.0.2.3", event.method, "d111.cloudfront.net", quote(path, safe="/!$&()*+,;=:@-._"),
        str(event.status), "-", quote(event.agent, safe="/."), quote(query, safe="=&") or "-", "-", "Error",
        "reqid==", event.host, "https", "23", "0.001", "-", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "Error",
        "HTTP/2.0", "-", "-", "11040", "0.001", "Error", "text/html", "78", "-", "-",
    ]  # fmt: skip
    return "\t".join(columns).encode()


def oss(event: Wanted) -> bytes:
    operation = {"GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[event.method]
    return (
        b'192.0.2.3 - - [%s] "%s %s HTTP/1.1" %d 283 9 "-" "%s" "%s.oss-cn-hangzhou.aliyuncs.com" '
        b'"5FB3A2" "true" "100" "%s" "%s" "%s" - 5 "NoSuchKey" 500 "100" - "-" "standard" "-"'
        % (
            clf(event.at).encode(), event.method.encode(), event.target, event.status, event.agent.encode(),
            event.bucket.encode(), operation.encode(), event.bucket.encode(), quote(event.key, safe="").encode(),
        )
    )  # fmt: skip


def cos(event: Wanted) -> bytes:
    path = event.target.partition(b"?")[0]
    operation = {"GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[event.method]
    return (
        b"1.0 %s ap-beijing %s %s.cos.ap-beijing.myqcloud.com %s 192.0.2.3 AKID - 0 0 %s %s %s %d NoSuchKey "
        b"The%%20specified%%20key%%20does%%20not%%20exist. 197 4 USER STANDARD 100 4 100:100 reqid 0 - - - -"
        % (
            event.bucket.encode(), iso(event.at).encode(), event.bucket.encode(), operation.encode(), path,
            event.method.encode(), event.agent.encode(), event.status,
        )
    )  # fmt: skip


def gcs(event: Wanted) -> bytes:
    values = [
        str(event.at * 1_000_000), "192.0.2.3", "1", "", event.method, f"/{event.bucket}{event.target.decode()}",
        str(event.status), "0", "197", "9000", "storage.googleapis.com", event.referer, event.agent, "reqid",
        "GET_Object", event.bucket, event.key,
    ]  # fmt: skip
    return ",".join('"' + value.replace('"', '""') + '"' for value in values).encode()


def generic(event: Wanted) -> bytes:
    return orjson.dumps({
        "ts": event.at, "verb": event.method, "where": {"uri": event.target.decode()}, "code": str(event.status),
        "vhost": event.host,
    })  # fmt: skip


#: Format name to writer; `generic` needs the field map {target: where.uri}.
def alb(wanted: Wanted) -> bytes:
    stamp = iso(wanted.at).replace("Z", ".186641Z").encode()
    url = b"https://" + wanted.host.encode() + b":443" + wanted.target
    return (
        b"h2 "
        + stamp
        + b" app/my-loadbalancer/50dc6c495c0c9188 10.0.1.252:48160 10.0.0.66:9000 0.000 0.002 0.000 "
        + str(wanted.status).encode()
        + b" "
        + str(wanted.status).encode()
        + b' 5 257 "'
        + wanted.method.encode()
        + b" "
        + url
        + b' HTTP/2.0" "'
        + wanted.agent.replace('"', "\\x22").encode()
        + b'" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/t/73e2 '
        b'"Root=1-58337281-1d84f3d73c47ec4e58577259" "'
        + wanted.host.encode()
        + b'" "arn:aws:acm:us-east-2:123456789012:certificate/c" 1 '
        + stamp
        + b' "waf,forward" "-" "-" "10.0.0.66:9000" "'
        + str(wanted.status).encode()
        + b'" "-" "-" TID_123'
    )


def alibaba_cdn(wanted: Wanted) -> bytes:
    return (
        f'[{clf(wanted.at)}] 10.10.10.10 - 1542 "{wanted.referer or "-"}" "{wanted.method} http://{wanted.host}'.encode()
        + wanted.target
        + f'" {wanted.status} 191 2830 MISS "{wanted.agent}" "text/html"'.encode()
    )


def tencent_cdn(wanted: Wanted) -> bytes:
    local = time.strftime("%Y%m%d%H%M%S", time.gmtime(wanted.at + 8 * 3600))
    return (
        f"{local} 203.0.113.9 {wanted.host} ".encode()
        + wanted.target
        + f' 514 1050 1 {wanted.status} {wanted.referer or "NULL"} 12 "{wanted.agent}" "(null)" {wanted.method} '
        "HTTP/1.1 miss 52130".encode()
    )


def fastly(wanted: Wanted) -> bytes:
    return orjson.dumps({
        "timestamp": iso(wanted.at), "client_ip": "203.0.113.9", "geo_country": "germany", "geo_city": "berlin",
        "host": wanted.host, "url": wanted.target.decode("utf-8", "replace"), "request_method": wanted.method,
        "request_protocol": "HTTP/1.1", "request_referer": wanted.referer, "request_user_agent": wanted.agent,
        "response_state": "MISS", "response_status": wanted.status, "response_reason": "Not Found",
        "response_body_size": 12, "fastly_server": "cache-ams21052-AMS", "fastly_is_edge": True,
    })  # fmt: skip


def cloudfront_json(wanted: Wanted) -> bytes:
    path, _, query = wanted.target.decode("utf-8", "replace").partition("?")
    return orjson.dumps({
        "timestamp": f"{wanted.at}.123", "c-ip": "203.0.113.9", "time-to-first-byte": "0.01",
        "sc-status": str(wanted.status), "sc-bytes": "512", "cs-method": wanted.method, "cs-protocol": "https",
        "cs-host": "d111111abcdef8.cloudfront.net", "cs-uri-stem": path, "x-edge-location": "FRA56-P1",
        "x-edge-request-id": "k6wg", "x-host-header": wanted.host, "cs-user-agent": wanted.agent,
        "cs-referer": wanted.referer or "-", "cs-uri-query": query or "-",
    })  # fmt: skip


def cloudflare(wanted: Wanted) -> bytes:
    return orjson.dumps({
        "ClientIP": "203.0.113.9", "ClientRequestHost": wanted.host, "ClientRequestMethod": wanted.method,
        "ClientRequestURI": wanted.target.decode("utf-8", "replace"), "ClientRequestUserAgent": wanted.agent,
        "EdgeEndTimestamp": wanted.at * 10**9 + 5, "EdgeResponseBytes": 69045, "EdgeResponseStatus": wanted.status,
        "EdgeStartTimestamp": wanted.at * 10**9, "RayID": "3a6050bcbe121a87",
    })  # fmt: skip


def google_cloud(wanted: Wanted) -> bytes:
    return orjson.dumps({
        "httpRequest": {
            "cacheLookup": True, "remoteIp": "203.0.113.9", "requestMethod": wanted.method, "requestSize": "75",
            "requestUrl": f"https://{wanted.host}{wanted.target.decode('utf-8', 'replace')}", "responseSize": "412",
            "status": wanted.status, "userAgent": wanted.agent, "latency": "0.001s",
        },
        "insertId": "1f4k9q", "jsonPayload": {"statusDetails": "response_sent_by_backend"},
        "logName": "projects/p/logs/requests", "resource": {"type": "http_load_balancer", "labels": {}},
        "severity": "WARNING", "timestamp": iso(wanted.at),
    })  # fmt: skip


def azure(wanted: Wanted) -> bytes:
    return orjson.dumps({
        "time": iso(wanted.at).replace("Z", ".0000000Z"), "resourceId": "/SUBSCRIPTIONS/X",
        "category": "FrontDoorAccessLog", "operationName": "Microsoft.Cdn/Profiles/AccessLog/Write",
        "properties": {
            "trackingReference": "0abc", "httpMethod": wanted.method, "httpVersion": "2.0",
            "requestUri": f"https://{wanted.host}:443{wanted.target.decode('utf-8', 'replace')}",
            "userAgent": wanted.agent, "httpStatusCode": str(wanted.status), "hostName": wanted.host,
        },
    })  # fmt: skip


def akamai(wanted: Wanted) -> bytes:
    path, _, query = wanted.target.decode("utf-8", "replace").partition("?")
    return orjson.dumps({
        "version": 1, "cp": "123456", "reqId": "1239f220", "reqTimeSec": f"{wanted.at}.123", "bytes": "4995",
        "cliIP": "203.0.113.9", "statusCode": str(wanted.status), "proto": "HTTPS", "reqHost": wanted.host,
        "reqMethod": wanted.method, "reqPath": path, "queryStr": query or "-",
    })  # fmt: skip


def elb(wanted: Wanted) -> bytes:
    stamp = iso(wanted.at).replace("Z", ".945958Z")
    return (
        f"{stamp} my-loadbalancer 192.168.131.39:2817 10.0.0.1:80 0.000073 0.001048 0.000057 {wanted.status} "
        f'{wanted.status} 0 29 "{wanted.method} http://{wanted.host}:80'.encode()
        + wanted.target
        + f' HTTP/1.1" "{wanted.agent}" - -'.encode()
    )


def huawei_cdn(wanted: Wanted) -> bytes:
    return (
        f'[{clf(wanted.at)}] 1 203.0.113.9 1 "{wanted.referer or "-"}" "HTTP/1.1" "{wanted.method}" "{wanted.host}" '
        f'"'.encode()
        + wanted.target
        + f'" {wanted.status} 720 MISS "{wanted.agent}" "-" 198.51.100.2'.encode()
    )


def bunny(wanted: Wanted) -> bytes:
    return (
        f"MISS|{wanted.status}|{wanted.at}421|412|390|203.0.113.9|{wanted.referer or '-'}|https://{wanted.host}".encode()
        + wanted.target
        + f"|WA|{wanted.agent}|322b688bd63fb63f2babe9de30a5d262|DE".encode()
    )


def squid(wanted: Wanted) -> bytes:
    return (
        f"{wanted.at}.123    110 203.0.113.9 TCP_MISS/{wanted.status} 1453 {wanted.method} http://{wanted.host}".encode()
        + wanted.target
        + b" - FIRSTUP_PARENT/10.0.0.5 text/html"
    )


def rgw(wanted: Wanted) -> bytes:
    """As Ceph 16.2 writes it to `rgw_ops_log_file_path`."""
    return orjson.dumps(
        {
            "bucket": wanted.bucket,
            "time": iso(wanted.at).replace("Z", ".123456Z"),
            "time_local": iso(wanted.at).replace("Z", ".123456+0000"),
            "remote_addr": "192.0.2.7",
            "user": "reader",
            "operation": "get_obj",
            "uri": (f"{wanted.method} /{wanted.bucket}".encode() + wanted.target + b" HTTP/1.1").decode(
                "utf-8", "replace"
            ),
            "http_status": str(wanted.status),
            "error_code": "NoSuchKey" if wanted.status == 404 else "",
            "bytes_sent": 217,
            "bytes_received": 0,
            "object_size": 0,
            "total_time": 3,
            "user_agent": wanted.agent,
            "referrer": wanted.referer,
            "trans_id": "tx000005a9b7f3f0c-0067481f3b-1017-default",
            "authentication_type": "Keystone",
            "access_key_id": "READER",
            "temp_url": False,
        }
    )


WRITERS = {
    "nginx": nginx, "apache": apache, "apache-common": apache_common, "varnish": varnish, "traefik": traefik,
    "envoy": envoy, "haproxy": haproxy, "caddy": caddy, "traefik-json": traefik_json, "envoy-json": envoy_json,
    "s3": s3, "cloudfront": cloudfront, "oss": oss, "cos": cos, "gcs": gcs, "rgw": rgw, "json": generic,
    "alb": alb, "alibaba-cdn": alibaba_cdn, "tencent-cdn": tencent_cdn, "fastly": fastly,
    "cloudfront-json": cloudfront_json, "cloudflare": cloudflare, "google-cloud": google_cloud, "azure": azure,
    "akamai": akamai, "elb": elb, "huawei-cdn": huawei_cdn, "bunny": bunny, "squid": squid,
}  # fmt: skip
