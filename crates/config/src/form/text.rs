//! Values with a syntax of their own: durations, sizes, networks, addresses, URLs, moments.
//!
//! Each parses into a type that cannot be wrong, and names a `format` in the schema under which
//! [`check_format`] finds the same parser: what the check accepts is what the form reads.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::url::Url;

/// Checks `text` against one of the formats of the schema. Unknown formats accept everything.
pub(crate) fn check_format(format: &str, text: &str) -> Result<(), String> {
    match format {
        "aiproxy-duration" => Span::parse(text).map(drop),
        "aiproxy-size" => Size::parse(text).map(drop),
        "aiproxy-network" => Network::parse(text).map(drop),
        "aiproxy-listen" => Listen::parse(text).map(drop),
        "aiproxy-base-url" => BaseUrl::parse(text).map(drop),
        "aiproxy-websocket-url" => WebsocketUrl::parse(text).map(drop),
        "aiproxy-path" => UrlPath::parse(text).map(drop),
        "date-time" => Timestamp::parse(text).map(drop),
        _ => Ok(()),
    }
}

/// Declares a type that is written as text in a format, optionally as a number too.
macro_rules! written_as {
    ($type:ident, $format:literal, $pattern:literal $(, number: $bounds:tt => $from_number:expr)?) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match Value::deserialize(deserializer)? {
                    Value::String(text) => $type::parse(&text).map_err(D::Error::custom),
                    $(Value::Number(number) => {
                        let from_number: fn(f64) -> Result<$type, String> = $from_number;
                        from_number(number.as_f64().unwrap_or(-1.0)).map_err(D::Error::custom)
                    })?
                    _ => Err(D::Error::custom("wrong type")),
                }
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "anyOf": [
                    $($bounds,)?
                    { "type": "string", "format": $format, "pattern": $pattern }
                ]})
            }
        }
    };
}

/// A length of time: a number of seconds, or text such as `500ms`, `30s`, `5m`, `2h`, `7d`, `2w`, `1y`, `1h30m`. A day
/// has 24 hours, a year 365 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

written_as!(Span, "aiproxy-duration", r"^([0-9.]+(ms|s|m|h|d|w|y)?)+$",
    number: { "type": "number", "minimum": 0, "maximum": 3_153_600_000_u64 } => Span::from_seconds);

impl Span {
    fn from_seconds(seconds: f64) -> Result<Self, String> {
        const HUNDRED_YEARS: f64 = 3_153_600_000.0;
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if seconds <= HUNDRED_YEARS => Ok(Self(duration)),
            _ => Err("must be between 0 and 100 years".to_owned()),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut seconds = 0.0;
        let mut rest = text.trim();
        if rest.is_empty() {
            rest = "?";
        }
        while !rest.is_empty() {
            let (number, unit, after) = number_and_unit(rest);
            let scale = match unit {
                "ms" => 0.001,
                "s" | "" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                "w" => 604_800.0,
                "y" => 31_536_000.0,
                _ => f64::NAN,
            };
            seconds += number * scale;
            rest = after;
        }
        if seconds.is_nan() {
            return Err("expected a duration: seconds, or e.g. `500ms`, `30s`, `5m`, `2h`".to_owned());
        }
        Self::from_seconds(seconds)
    }
}

/// A length of time, or `off`: `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanOrOff(pub Option<Span>);

impl<'de> Deserialize<'de> for SpanOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "off" => Ok(Self(None)),
            span => Span::deserialize(span).map(|span| Self(Some(span))).map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for SpanOrOff {
    fn schema_name() -> Cow<'static, str> {
        "SpanOrOff".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string", "enum": ["off"] }, generator.subschema_for::<Span>()] })
    }
}

/// A number of bytes: a number, or text such as `64KiB`, `10MiB`, `1GiB` (`KB`, `MB`, `GB` count in thousands).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

written_as!(Size, "aiproxy-size", r"^[0-9.]+ *([KMGT]i?B?|B)?$",
    number: { "type": "integer", "minimum": 0, "maximum": 1_125_899_906_842_624_u64 } => Size::from_bytes);

impl Size {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
    fn from_bytes(bytes: f64) -> Result<Self, String> {
        const PEBIBYTE: f64 = 1_125_899_906_842_624.0;
        if (0.0..=PEBIBYTE).contains(&bytes) {
            return Ok(Self(bytes.round() as u64));
        }
        Err("must be between 0 and 1024 TiB".to_owned())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit, after) = number_and_unit(text.trim());
        let scale = match unit {
            "" | "B" => 1.0,
            "KiB" | "Ki" | "K" => 1024.0,
            "MiB" | "Mi" | "M" => 1_048_576.0,
            "GiB" | "Gi" | "G" => 1_073_741_824.0,
            "TiB" | "Ti" | "T" => 1_099_511_627_776.0,
            "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "TB" => 1e12,
            _ => f64::NAN,
        };
        if number.is_nan() || scale.is_nan() || !after.is_empty() {
            return Err("expected a size: bytes, or e.g. `64KiB`, `10MiB`, `1GiB`".to_owned());
        }
        Self::from_bytes(number * scale)
    }
}

/// Splits `1h30m` into 1, `h` and `30m`. Not a number: NaN.
fn number_and_unit(text: &str) -> (f64, &str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_end);
    (number.parse().unwrap_or(f64::NAN), unit.trim(), after)
}

/// An IP address or a network: `10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

written_as!(Network, "aiproxy-network", r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$");

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let network = text.parse::<IpNet>().map_err(|_| {
            "expected an IP address or a network, e.g. `10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32`".to_owned()
        })?;
        // `10.0.0.7/8` means 10.0.0.0/8: the host bits never matter to a match.
        Ok(Self(network.trunc()))
    }
}

/// An address to listen on: `127.0.0.1:8001`, `:8001` (every IPv4 address), `[::]:8001`, or a port of the local
/// machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

written_as!(Listen, "aiproxy-listen", r"^(.*:)?[0-9]+$",
    number: { "type": "integer", "minimum": 0, "maximum": 65535 } => |port| Listen::parse(&port.to_string()));

impl Listen {
    fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected an address and port, e.g. `127.0.0.1:8001`, `:8001` or `[::1]:8001`";
        let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
        let port: u16 = port.parse().map_err(|_| expected.to_owned())?;
        let address = match host {
            "" | "*" => IpAddr::from([0, 0, 0, 0]),
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            host => {
                let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                let address: IpAddr = inner.unwrap_or(host).parse().map_err(|_| expected.to_owned())?;
                if address.is_ipv6() && inner.is_none() {
                    return Err("an IPv6 address stands in brackets, e.g. `[::1]:8001`".to_owned());
                }
                address
            }
        };
        Ok(Self(SocketAddr::new(address, port)))
    }
}

/// Where an upstream is reached: `https://host`, with port and path prefix if need be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(pub(crate) Url);

written_as!(BaseUrl, "aiproxy-base-url", r"^(https?|wss?)://[^@?#]+$");

impl BaseUrl {
    fn parse(text: &str) -> Result<Self, String> {
        Url::base(text).map(Self)
    }
}

/// Base URL of an upstream's WebSockets: `wss://host`, with port and path prefix if need be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebsocketUrl(pub(crate) Url);

written_as!(WebsocketUrl, "aiproxy-websocket-url", r"^(wss?|https?)://[^@?#]+$");

impl WebsocketUrl {
    fn parse(text: &str) -> Result<Self, String> {
        Url::websocket(text).map(Self)
    }
}

/// An absolute path of a URL: starts with `/`, has no query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UrlPath(pub Box<str>);

written_as!(UrlPath, "aiproxy-path", r"^/[^?#\s]*$");

impl UrlPath {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("a path starts with `/`, e.g. `/v1/chat/completions`".to_owned());
        }
        if text.contains(['?', '#']) || text.contains(char::is_whitespace) || text.contains(char::is_control) {
            return Err("a path has no query, fragment or spaces".to_owned());
        }
        Ok(Self(text.into()))
    }
}

/// A moment (RFC 3339) with its offset from UTC: `2026-12-31T23:59:59+08:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub jiff::Timestamp);

written_as!(Timestamp, "date-time", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+([Zz]|[+-][0-9:]+)$");

impl Timestamp {
    fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected a moment with its offset, e.g. `2026-12-31T23:59:59+08:00` or `2026-12-31T15:59:59Z`";
        text.parse().map(Self).map_err(|_| expected.to_owned())
    }
}
