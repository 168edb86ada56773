use super::*;

fn read(message: &str) -> Result<Said, Unclear> {
    let mut listener = Listener::default();
    listener.push(message.as_bytes());
    let whole = listener.end();
    for at in 0..=message.len() {
        for piece in [&message.as_bytes()[..at], &message.as_bytes()[at..]] {
            listener.push(piece);
        }
        assert_eq!(listener.end(), whole, "{message} in two pieces, at {at}");
    }
    for byte in message.as_bytes() {
        listener.push(&[*byte]);
    }
    assert_eq!(listener.end(), whole, "{message}, byte by byte");
    whole
}

fn asks(model: Option<&str>) -> Said {
    Said { asks: true, model: model.map(str::to_owned), ..Said::default() }
}

#[test]
fn models_are_found_where_they_may_stand() {
    let other = |model: &str| Said { asks: false, ..asks(Some(model)) };
    let writes = |model: &str| Said { writes: Some(model.to_owned()), ..Said::default() };
    for (message, want) in [
        (r#"{"type":"response.create"}"#, asks(None)),
        (r#" { "type" : "response.create" , "model" : null } "#, asks(None)),
        (
            r#"{"type":"response.create","model":"m","input":[{"model":"x","a":["]","}\""]}]}"#,
            asks(Some("m")),
        ),
        (r#"{"model":"m","n":-1.5e3,"b":true,"type":"response.create"}"#, asks(Some("m"))),
        (
            r#"{"metadata":{"type":"a.delta"},"type":"response.create","model":"d"}"#,
            asks(Some("d")),
        ),
        (r#"{"type":"response.create","mod\u0065l":"d\u00e9ar\n"}"#, asks(Some("déar\n"))),
        (r#"{"\u0074ype":"response.cr\u0065ate","MODEL":"d"}"#, asks(Some("d"))),
        (
            r#"{"type":"response.create","response":{"x":{"model":"y"},"model":"d"}}"#,
            asks(Some("d")),
        ),
        (r#"{"type":"session.update","session":{"model":"d","audio":{"output":{}}}}"#, other("d")),
        (r#"{"model":"d","session":{"model":"d"}}"#, other("d")),
        (
            r#"{"session":{"audio":{"input":{"format":{},"transcription":{"model":"w"}}}}}"#,
            writes("w"),
        ),
        (r#"{"session":{"input_audio_transcription":{"language":"en","model":"w"}}}"#, writes("w")),
        (r#"{"session":{"audio":[{"input":{"transcription":{"model":"w"}}}]}}"#, Said::default()),
        (r#"{"session":{"transcription":{"model":"w"}},"input":{"model":"x"}}"#, Said::default()),
        (r#"{"type":7,"session":null,"response":"model"}"#, Said::default()),
        ("{}", Said::default()),
    ] {
        let mut said = read(message).unwrap_or_else(|fault| panic!("{fault:?}: {message}"));
        assert_eq!(said.prompt_bytes, message.len() as u64);
        said.prompt_bytes = 0;
        assert_eq!(said, want, "{message}");
    }
}

#[test]
fn what_may_be_read_in_two_ways_is_a_fault() {
    for (message, name) in [
        (r#"{"model":"m","model":"m"}"#, "model"),
        (r#"{"model":"m","mod\u0065l":"d"}"#, "model"),
        (r#"{"model":"m","Model":"d"}"#, "model"),
        (r#"{"model":"m","response":{"model":"d"}}"#, "model"),
        (r#"{"type":"a","type":"b"}"#, "type"),
        (r#"{"response":{},"response":{"model":"d"}}"#, "response"),
        (r#"{"session":{"audio":{},"audio":{}}}"#, "audio"),
        (
            r#"{"session":{"input_audio_transcription":{"model":"a"},"audio":{"input":{"transcription":{"model":"b"}}}}}"#,
            "transcription.model",
        ),
    ] {
        assert_eq!(read(message), Err(Unclear::Twice(name)), "{message}");
    }
    for message in [
        "",
        " ",
        "x",
        "[]",
        "\"{}\"",
        "{",
        "{}}",
        "{} {}",
        "{]",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":1 2}"#,
        r#"{"a" 1}"#,
        "{'a':1}",
        r#"{"a":/**/1}"#,
        r#"{"a":[1}"#,
        r#"{"a":"\"}"#,
        r#"{"model":7}"#,
        r#"{"model":["m"]}"#,
        r#"{"model":{}}"#,
        r#"{"model":true}"#,
        r#"{"model":"\ud800"}"#,
        "\u{feff}{}",
    ] {
        assert_eq!(read(message), Err(Unclear::Unreadable), "{message}");
    }
}

#[test]
fn long_names_and_values_are_bounded() {
    let long = "m".repeat(LONGEST);
    assert_eq!(read(&format!(r#"{{"model":"{long}"}}"#)), Err(Unclear::Unreadable));
    let fits = "m".repeat(LONGEST - 1);
    assert_eq!(read(&format!(r#"{{"model":"{fits}"}}"#)).unwrap().model, Some(fits));
    let said = read(&format!(r#"{{"{long}":1,"type":"{long}"}}"#)).unwrap();
    assert_eq!((said.asks, said.model), (false, None));
}

#[test]
fn sound_and_pictures_are_no_prose() {
    let base64 = "A".repeat(100_000);
    let sound = format!(r#"{{"type":"input_audio_buffer.append","audio":"{base64}"}}"#);
    let mut listener = Listener::default();
    let mut weigh = |message: &str| {
        listener.push(message.as_bytes());
        listener.end().unwrap().prompt_bytes
    };
    assert_eq!(weigh(&sound), 62);
    let picture = format!(r#"{{"item":{{"content":[{{"image_url":"data:{base64}"}}]}}}}"#);
    assert!((6000..6100).contains(&weigh(&picture)));
    let prose = format!(r#"{{"item":{{"text":"{}"}}}}"#, "word ".repeat(20_000));
    assert_eq!(weigh(&prose), prose.len() as u64);
}
