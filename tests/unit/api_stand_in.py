#!/usr/bin/env python3
"""Stands in for the APIs of the signal providers on 127.0.0.1: api_stand_in.py [--recorded FOLDER] [--tls CERT KEY].

Prints its port, serves until it is killed, and answers like the real ones, with the failures that regions are named
after. /log lists the paths that were asked for; /set?V sets the value that /value serves, /set?NAME=V that of /value?NAME.
"""
import base64
import datetime
import http.server
import json
import pathlib
import ssl
import sys
import urllib.parse

arguments = sys.argv[1:]
recorded = pathlib.Path(arguments[arguments.index("--recorded") + 1]) if "--recorded" in arguments else None
log, busy, state = [], {}, {"token": 0, "uses": 0, "value": 50.0, "down": False}


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def points(start, end, minutes, make):
    at, result = start, []
    while at <= end:
        result.append(make(at, len(result)))
        at += datetime.timedelta(minutes=minutes)
    return result


def watttime_body(query):
    data = points(instant(query["start"]), instant(query["end"]), 5,
                  lambda at, i: {"point_time": at.isoformat(), "value": 1000 + i % 7})
    return {"data": data, "meta": {"data_point_period_seconds": 300, "region": query["region"], "warnings": [],
                                   "signal_type": query["signal_type"], "units": "lbs_co2_per_mwh"}}


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        if parts.path == "/log":
            return self.answer(200, log)
        log.append(self.path)
        if parts.path == "/set":
            state["down"] = parts.query == "down"
            if not state["down"]:
                name, _, value = parts.query.rpartition("=")
                state["value" + name] = float(value)
            return self.answer(200, {})
        if parts.path == "/value":
            if state["down"]:
                return self.answer(503, b"")
            if "auth-token" in self.headers and self.headers["auth-token"] != "secret":
                return self.answer(401, {"message": "bad token"})
            return self.answer(200, {"grid": [{"mw": state["value" + parts.query], "text": "12.5", "at": "2026-01-11T17:00:00Z"}]})
        if parts.path == "/away":
            return self.answer(302, b"", [("Location", "/value")])
        if parts.path == "/login":
            expected = "Basic " + base64.b64encode(b"user:sec ret").decode()
            if self.headers.get("Authorization") != expected:
                return self.answer(401, b"<html>no</html>")
            state["token"] += 1
            state["uses"] = 0
            return self.answer(200, {"token": f"token{state['token']}"})
        region = query.get("region", query.get("zone", ""))
        if region == "BUSY" and busy.setdefault(self.path, 0) < 2:
            busy[self.path] += 1
            return self.answer(429, b"", [("Retry-After", "0")])
        if region == "BROKEN":
            return self.answer(503, b"down")
        if region == "HTML":
            return self.answer(200, b"<html>a proxy's page</html>")
        if parts.path == "/v3/signal-index":
            if self.headers.get("Authorization") != f"Bearer token{state['token']}":
                return self.answer(401, b"<html>expired</html>")
            if region == "RECORDED":
                return self.answer(200, (recorded / "watttime_v3_realtime_emissions_response.json").read_bytes())
            now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
            return self.answer(200, {
                "data": [{"point_time": now.isoformat(), "value": state["value"]}],
                "meta": {"data_point_period_seconds": 300, "region": region, "units": "percentile", "warnings": [],
                         "signal_type": query["signal_type"]}})
        if parts.path.startswith("/v3/historical") or parts.path == "/v3/forecast":
            state["uses"] += 1
            if self.headers.get("Authorization") != f"Bearer token{state['token']}" or state["uses"] > 2:
                return self.answer(401, b"<html>expired</html>")
            if region == "RECORDED":
                name = "historical" if "historical" in parts.path else "forecasted"
                return self.answer(200, (recorded / f"watttime_v3_{name}_emissions_response.json").read_bytes())
            if region == "REFUSED":
                return self.answer(403, {"error": "Invalid query parameters", "message": "Invalid scope. Pay."})
            if parts.path == "/v3/forecast":
                query["start"], query["end"] = "2022-07-15T00:00:00Z", "2022-07-15T01:00:00Z"
            return self.answer(200, watttime_body(query))
        if parts.path.startswith("/v3/carbon-intensity/"):
            if self.headers.get("auth-token") != "secret":
                return self.answer(401, {"message": "Invalid auth-token"})
            what = parts.path.rsplit("/", 1)[1]
            if recorded and region == "RECORDED":
                return self.answer(200, (recorded / "emaps_v3_latest_carbon_intensity.json").read_bytes())
            if what == "latest":
                return self.answer(200, {"zone": region, "carbonIntensity": 216, "datetime": "2024-03-06T19:00:00Z"})
            start, end = query.get("start", "2024-03-06T19:00:00Z"), query.get("end", "2024-03-07T19:00:00Z")
            data = points(instant(start), instant(end) - datetime.timedelta(hours=1), 60,
                          lambda at, i: {"carbonIntensity": None if i == 3 else 100 + i, "datetime": at.isoformat()})
            return self.answer(200, {"zone": region, "forecast" if what == "forecast" else "data": data})
        if parts.path.startswith("/intensity/"):
            start, end = (instant(text) for text in parts.path.split("/")[2:4])
            data = points(start, end, 30, lambda at, i: {
                "from": at.strftime("%Y-%m-%dT%H:%MZ"),
                "to": (at + datetime.timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%MZ"),
                "intensity": {"forecast": 140 + i, "actual": 150 + i, "index": "low"}})
            return self.answer(200, {"data": data})
        return self.answer(404, {"error": "not here"})

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if "--tls" in arguments:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    where = arguments.index("--tls")
    context.load_cert_chain(arguments[where + 1], arguments[where + 2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
