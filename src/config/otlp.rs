//! `telemetry.otlp`: where traces and metrics are sent.
//!
//! What the file does not say, the environment may, by the names that OpenTelemetry has for it
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>): also whether
//! anything is sent at all, where the file has no `otlp`. What the file says counts before.
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::file::{Kind, Node, Place};
use super::keys::{OTLP, PROTOCOLS, SWITCH};
use super::read::{At, Fields, Reader};
use super::upstream::header_name;
use super::{Host, Origin, url};

const SHORT: &str =
    "`off`, a URL like http://127.0.0.1:4318, or a mapping like { endpoint: http://… }";
const ENDPOINT: &str = "the key `endpoint` with a URL like http://127.0.0.1:4318, or \
                        OTEL_EXPORTER_OTLP_ENDPOINT";
/// The shortest time between two reports of metrics.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// Over HTTP, `/v1/traces` and `/v1/metrics` are below its path.
    pub endpoint: Origin,
    pub protocol: OtlpProtocol,
    /// Values are not shown.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub traces: bool,
    pub metrics: bool,
    /// The share of calls that are traced, from 0 to 1, where no caller says.
    pub sample: f64,
    /// A caller's own decision goes before.
    pub by_parent: bool,
    /// Whether spans hold what is asked.
    pub content: bool,
    /// Between two reports of metrics.
    pub interval: Duration,
    /// `service.name`
    pub service: String,
    /// More attributes of the resource.
    pub resource: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protobuf, posted.
    Http,
    Grpc,
}

impl OtlpProtocol {
    pub const ALL: [Self; 2] = [Self::Http, Self::Grpc];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

impl Otlp {
    pub fn new(endpoint: Origin) -> Self {
        Self {
            endpoint,
            protocol: OtlpProtocol::Http,
            headers: Vec::new(),
            traces: true,
            metrics: true,
            sample: 0.05,
            by_parent: true,
            content: false,
            interval: Duration::from_mins(1),
            service: "tidegate".to_owned(),
            resource: Vec::new(),
        }
    }
}

/// A variable that is not as it should be. Its value is not told: it may be a secret.
#[derive(Debug)]
pub(super) struct Unread {
    pub variable: &'static str,
    pub expected: &'static str,
}

/// What the environment says.
#[derive(Default)]
struct Said {
    endpoint: Option<Origin>,
    protocol: Option<OtlpProtocol>,
    headers: Vec<(HeaderName, HeaderValue)>,
    service: Option<String>,
    /// The share, and whether callers decide.
    sample: Option<(f64, bool)>,
    resource: Vec<(String, String)>,
}

impl Said {
    fn over(self, mut otlp: Otlp) -> Otlp {
        otlp.protocol = self.protocol.unwrap_or(otlp.protocol);
        otlp.headers = self.headers;
        (otlp.sample, otlp.by_parent) = self.sample.unwrap_or((otlp.sample, otlp.by_parent));
        let named = self.resource.iter().find(|(key, _)| key == "service.name");
        let service = self.service.or_else(|| named.map(|(_, name)| name.clone()));
        otlp.service = service.unwrap_or(otlp.service);
        otlp.resource = self.resource;
        otlp
    }
}

/// Where there is no file, or it does not say.
pub(super) fn of_environment(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Otlp>, Unread> {
    // nobody else's variables are judged where nothing is wanted of them
    let wanted = variable(env, "OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
    if !wanted || is_disabled(env) {
        return Ok(None);
    }
    let mut said = read(env)?;
    Ok(said.endpoint.take().map(|endpoint| said.over(Otlp::new(endpoint))))
}

/// The key, if it is there: `None` for `off`, and where it is at fault.
pub(super) fn otlp<'r>(reader: &'r Reader<'r>, at: Option<&At<'_>>) -> Option<Otlp> {
    let Some(at) = at else {
        let found = of_environment(reader.world.env);
        let nowhere = Node::new(Place::default(), Kind::Null);
        let at = At { node: &nowhere, path: "telemetry.otlp".to_owned() };
        return found.map_err(|unread| refuse(reader, &at, &unread)).ok().flatten();
    };
    if matches!(&at.node.kind, Kind::Text(text) if text == "off") {
        return None;
    }
    let said = read(reader.world.env).map_err(|unread| refuse(reader, at, &unread));
    let said = said.unwrap_or_default();
    match &at.node.kind {
        Kind::Map(_) => section(reader, at, said),
        Kind::Text(_) => endpoint(reader, at, SHORT).map(|url| said.over(Otlp::new(url))),
        _ => {
            reader.wrong(at, at.node.what(), SHORT);
            None
        }
    }
}

fn refuse(reader: &Reader<'_>, at: &At<'_>, unread: &Unread) {
    let found = format!("the variable {} of another form", unread.variable);
    reader.wrong(at, found, unread.expected);
}

fn section<'r>(reader: &'r Reader<'r>, at: &At<'_>, mut said: Said) -> Option<Otlp> {
    let fields = reader.section(at, &OTLP)?;
    let url = match (fields.get("endpoint"), said.endpoint.take()) {
        (None, Some(said)) => Some(said),
        _ => fields.needed("endpoint", ENDPOINT).and_then(|at| endpoint(reader, &at, "a URL")),
    };
    let known = url.is_some();
    // what else is wrong is told as well
    let nowhere = || Origin { tls: false, host: Host::Name("".into()), port: 0, path: "".into() };
    let otlp = said.over(Otlp::new(url.unwrap_or_else(nowhere)));
    let switch = |name, default| fields.read(name, default, |r, at| Some(r.word(at, SWITCH)? == 1));
    let (sample, by_parent) = (otlp.sample, otlp.by_parent);
    let share = fields.maybe("sample", |r, at| r.percentage(at, 0));
    let read = Otlp {
        protocol: fields
            .read("protocol", otlp.protocol, |r, at| r.choice(at, PROTOCOLS, &OtlpProtocol::ALL)),
        headers: headers(reader, &fields).unwrap_or(otlp.headers),
        traces: switch("traces", otlp.traces),
        metrics: switch("metrics", otlp.metrics),
        sample: share.map_or(sample, |share| share / 100.0),
        by_parent: share.is_some() || by_parent,
        content: switch("content", otlp.content),
        interval: fields.read("interval", otlp.interval, interval),
        service: fields.read("service", otlp.service, |r, at| {
            Some(r.text(at, "the name of this service")?.value.into_owned())
        }),
        endpoint: otlp.endpoint,
        resource: otlp.resource,
    };
    known.then_some(read)
}

fn endpoint(reader: &Reader<'_>, at: &At<'_>, expected: &str) -> Option<Origin> {
    let text = reader.text(at, expected)?;
    url::origin(&text.value).map_err(|expected| reader.wrong(at, text.shown(), expected)).ok()
}

fn interval(reader: &Reader<'_>, at: &At<'_>) -> Option<Duration> {
    let time = reader.duration(at)?;
    if time < SHORTEST {
        reader.wrong(at, "a shorter time", "a duration of 1s or more, like 60s");
        return None;
    }
    Some(time)
}

fn headers(reader: &Reader<'_>, fields: &Fields<'_, '_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let at = fields.get("headers")?;
    let mut out = Vec::new();
    for (name, place, value) in reader.names(&at, "names of headers, each with its value") {
        let Some(name) = header_name(name) else {
            let found = "no name of a header that may be set";
            reader.fault(place, &value.path, found, "a header that is not of the connection's own");
            continue;
        };
        let Some(secret) = reader.secret(&value) else { continue };
        match hidden(secret.expose()) {
            Some(header) => out.push((name, header)),
            None => reader.wrong(&value, "a value that no header can have", "visible ASCII"),
        }
    }
    Some(out)
}

fn hidden(value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(value).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// An empty one is as if it were not set.
fn variable(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn is_disabled(env: &dyn Fn(&str) -> Option<String>) -> bool {
    variable(env, "OTEL_SDK_DISABLED").is_some_and(|said| said.eq_ignore_ascii_case("true"))
}

fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Said, Unread> {
    let value = |name: &'static str| variable(env, name);
    let unread = |variable, expected| Unread { variable, expected };
    let protocol = match value("OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
        None => None,
        // a collector takes both forms at one place
        Some("http/protobuf" | "http/json") => Some(OtlpProtocol::Http),
        Some("grpc") => Some(OtlpProtocol::Grpc),
        Some(_) => return Err(unread("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc or http/protobuf")),
    };
    let endpoint = value("OTEL_EXPORTER_OTLP_ENDPOINT").map(|text| {
        let bare = protocol == Some(OtlpProtocol::Grpc) && !text.contains("://");
        let text = if bare { format!("http://{text}") } else { text };
        url::origin(&text).map_err(|expected| unread("OTEL_EXPORTER_OTLP_ENDPOINT", expected))
    });
    let pairs = |name: &'static str| {
        let form = || unread(name, "name=value pairs with commas between them");
        value(name).map_or(Ok(Vec::new()), |text| pairs(&text).ok_or_else(form))
    };
    let header = |(name, value): (String, String)| {
        let form = || unread("OTEL_EXPORTER_OTLP_HEADERS", "names and values of headers");
        header_name(&name).zip(hidden(&value)).ok_or_else(form)
    };
    let headers = pairs("OTEL_EXPORTER_OTLP_HEADERS")?.into_iter().map(header);
    Ok(Said {
        endpoint: endpoint.transpose()?,
        protocol,
        headers: headers.collect::<Result<_, _>>()?,
        service: value("OTEL_SERVICE_NAME"),
        sample: sampler(value("OTEL_TRACES_SAMPLER"), value("OTEL_TRACES_SAMPLER_ARG").as_deref())?,
        resource: pairs("OTEL_RESOURCE_ATTRIBUTES")?,
    })
}

fn sampler(name: Option<String>, share: Option<&str>) -> Result<Option<(f64, bool)>, Unread> {
    let Some(name) = name else { return Ok(None) };
    let (by_parent, name) = match name.strip_prefix("parentbased_") {
        Some(name) => (true, name),
        None => (false, name.as_str()),
    };
    let share = match name {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => {
            let share = share.map_or(Some(1.0), |share| share.parse().ok());
            share.filter(|share| (0.0..=1.0).contains(share)).ok_or(Unread {
                variable: "OTEL_TRACES_SAMPLER_ARG",
                expected: "a number from 0 to 1",
            })?
        }
        _ => {
            return Err(Unread {
                variable: "OTEL_TRACES_SAMPLER",
                expected: "always_on, always_off or traceidratio, or the same behind parentbased_",
            });
        }
    };
    Ok(Some((share, by_parent)))
}

/// `a=1,b=2`, the values with %-escapes.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        Some((name.trim().to_owned(), url::unescaped(value.trim())?))
    };
    parts.map(pair).collect()
}

#[cfg(test)]
mod tests;
