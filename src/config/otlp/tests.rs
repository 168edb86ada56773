use super::*;
use crate::config::{Config, Host, parse, redacted};

type Vars<'v> = &'v [(&'v str, &'v str)];

fn read(text: &str, vars: Vars<'_>) -> Result<Config, String> {
    let env = |name: &str| {
        vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    parse("test.yaml", text, &env).map_err(|faults| faults.to_string())
}

fn otlp(text: &str, vars: Vars<'_>) -> Option<Otlp> {
    read(text, vars).unwrap_or_else(|faults| panic!("{faults}")).telemetry.otlp
}

#[test]
fn a_url_is_enough() {
    let short = otlp("telemetry: { otlp: 'http://127.0.0.1:4318' }", &[]).unwrap();
    let want = Otlp::new(url::origin("http://127.0.0.1:4318").unwrap());
    assert_eq!(short, want);
    assert_eq!((short.sample, short.by_parent, short.content), (0.05, true, false));
    assert_eq!(otlp("telemetry: { otlp: { endpoint: 'http://127.0.0.1:4318' } }", &[]), Some(want));
    assert_eq!(otlp("telemetry: { otlp: off }", &[]), None);
    assert_eq!(otlp("", &[]), None);
}

#[test]
fn every_key_is_read_and_shown_without_secrets() {
    let text = "telemetry:\n  otlp: { endpoint: 'https://otel.example/base', protocol: grpc, \
                headers: { authorization: '${TOKEN}' }, traces: off, metrics: on, sample: 12.5%, \
                content: on, interval: 10s, service: edge }";
    let config = read(text, &[("TOKEN", "Bearer s3cret-s3cret")]).unwrap();
    let read_back = config.telemetry.otlp.clone().unwrap();
    assert_eq!(read_back.protocol, OtlpProtocol::Grpc);
    assert_eq!(read_back.headers[0].1, "Bearer s3cret-s3cret");
    assert!(!read_back.traces && read_back.metrics && read_back.content);
    assert_eq!((read_back.sample, read_back.interval.as_secs()), (0.125, 10));
    assert_eq!(read_back.service, "edge");
    let shown = redacted(&config);
    assert!(!shown.contains("s3cret") && !format!("{config:?}").contains("s3cret"), "{shown}");
    let again = read(&shown, &[]).unwrap().telemetry.otlp.unwrap();
    assert_eq!(Otlp { headers: read_back.headers.clone(), ..again }, read_back);
}

#[test]
fn the_environment_counts_where_the_file_is_silent() {
    let vars = &[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, x-team=c"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=prod"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ];
    let said = otlp("", vars).unwrap();
    assert_eq!(said.endpoint.host, Host::Name("collector".into()));
    assert_eq!((said.endpoint.port, said.protocol), (4317, OtlpProtocol::Grpc));
    assert_eq!(
        (&said.headers[0].1, &said.headers[1].1),
        (&"a b".parse().unwrap(), &"c".parse().unwrap())
    );
    assert_eq!((said.service.as_str(), said.sample, said.by_parent), ("other", 0.25, true));
    assert_eq!(said.resource[1].1, "prod");
    let partly = "telemetry: { otlp: { endpoint: 'http://here:1', service: mine, sample: 1% } }";
    let partly = otlp(partly, vars).unwrap();
    assert_eq!(partly.endpoint.host, Host::Name("here".into()));
    assert_eq!((partly.service.as_str(), partly.sample), ("mine", 0.01));
    assert_eq!(partly.protocol, OtlpProtocol::Grpc);
    let named = [&vars[..], &[("OTEL_SERVICE_NAME", "named")]].concat();
    assert_eq!(otlp("telemetry: { level: info }", &named).unwrap().service, "named");
}

#[test]
fn it_is_off_by_the_file_and_by_the_environment() {
    let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    assert!(otlp("", &[on]).is_some_and(|otlp| otlp.by_parent));
    assert_eq!(otlp("telemetry: { otlp: off }", &[on]), None);
    assert_eq!(otlp("", &[on, ("OTEL_SDK_DISABLED", "true")]), None);
    assert!(otlp("", &[on, ("OTEL_SDK_DISABLED", "no")]).is_some());
    let always = otlp("", &[on, ("OTEL_TRACES_SAMPLER", "always_on")]).unwrap();
    assert_eq!((always.sample, always.by_parent), (1.0, false));
    // what is meant for others is not judged
    assert_eq!(otlp("", &[("OTEL_TRACES_SAMPLER", "jaeger_remote")]), None);
}

#[test]
fn what_is_wrong_is_told_without_its_value() {
    let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    for (text, vars, word) in [
        ("telemetry: { otlp: 7 }", &[][..], "telemetry.otlp"),
        ("telemetry: { otlp: 'ftp://x' }", &[], "http://"),
        ("telemetry: { otlp: {} }", &[], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("telemetry: { otlp: { endpoint: 'http://x', sample: 101% } }", &[], "100%"),
        ("telemetry: { otlp: { endpoint: 'http://x', protocol: gprc } }", &[], "grpc"),
        ("telemetry: { otlp: { endpoint: 'http://x', interval: 1ms } }", &[], "1s or more"),
        (
            "telemetry: { otlp: { endpoint: 'http://x', headers: { host: a } } }",
            &[],
            "connection's own",
        ),
        ("", &[on, ("OTEL_TRACES_SAMPLER", "s3cret")], "OTEL_TRACES_SAMPLER"),
        ("", &[on, ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")], "OTEL_EXPORTER_OTLP_HEADERS"),
        ("", &[on, ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%zz")], "OTEL_EXPORTER_OTLP_HEADERS"),
        ("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "s3cret")], "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ] {
        let faults = read(text, vars).unwrap_err();
        assert!(faults.contains(word) && !faults.contains("s3cret"), "{text}: {faults}");
    }
}
