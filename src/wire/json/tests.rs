use super::*;

#[test]
fn members_end_behind_the_brace() {
    let text = br#"{"a":1, "b" : {"c":[]} ,"d":"}"} rest"#;
    let mut members = Members::open(text, 0).unwrap();
    let mut seen = Vec::new();
    while let Some((key, value)) = members.next().unwrap() {
        seen.push((key.0, value.0));
    }
    let want: Vec<(&[u8], &[u8])> = vec![(b"a", b"1"), (b"b", br#"{"c":[]}"#), (b"d", br#""}""#)];
    assert_eq!(seen, want);
    assert_eq!(&text[members.at()..], b" rest");
}

#[test]
fn broken_text_is_noticed_where_it_breaks() {
    for (text, at) in [
        (&b"{"[..], 1),
        (b"{,}", 1),
        (br#"{"a"}"#, 4),
        (br#"{"a":}"#, 5),
        (br#"{"a":1 "b":2}"#, 7),
        (br#"{"a":1,}"#, 7),
        (br#"{"a":"x"#, 7),
        (br#"{"a":"x\"#, 8),
        (br#"{"a":[[1]"#, 9),
    ] {
        let mut members = Members::open(text, 0).unwrap();
        let fault = loop {
            match members.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{:?} was taken", String::from_utf8_lossy(text)),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault.at, at, "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn numbers_are_whole_and_not_absurd() {
    for (text, want) in [
        ("0", Some(0)),
        ("42", Some(42)),
        ("12.0", Some(12)),
        ("1e3", Some(1000)),
        ("1e999", None),
        ("-1", None),
        ("1.5", None),
        ("NaN", None),
        ("99999999999999999999999", None),
        ("\"5\"", None),
        ("null", None),
    ] {
        assert_eq!(Raw(text.as_bytes()).number(), want, "{text}");
    }
}

#[test]
fn marks_are_found_wherever_they_stand() {
    for len in [0, 1, 15, 16, 17, 47, 48, 49, 80, 100] {
        let mut text = vec![b'1'; len];
        assert_eq!(next_mark(&text, 0), len);
        text.extend_from_slice(b"]...");
        for from in [0, len / 2, len] {
            assert_eq!(next_mark(&text, from), len, "from {from}");
        }
    }
    let marks: Vec<u8> = (0..=255).filter(|&byte| is_mark(byte)).collect();
    assert_eq!(marks, b"\"[]{}");
}

#[test]
fn strings_end_at_the_first_quote_that_is_not_escaped() {
    for (text, want) in [
        (r#"""#, Some(1)),
        (r#"ab" ""#, Some(3)),
        (r#"a\"b""#, Some(5)),
        (r#"a\\""#, Some(4)),
        (r#"\\\"\\""#, Some(7)),
        (r#"a\""#, None),
        (r#"\\\""#, None),
        (r"ab\\", None),
    ] {
        assert_eq!(skip_string(text.as_bytes(), 0).ok(), want, "{text}");
    }
}

#[test]
fn elements_and_emptiness() {
    let all: Vec<_> = Raw(br#"[1, {"a":[2]}, "x"]"#).elements().unwrap().collect();
    assert_eq!(all, [Raw(b"1"), Raw(br#"{"a":[2]}"#), Raw(br#""x""#)]);
    assert_eq!(Raw(b"[ ]").elements().unwrap().count(), 0);
    for (text, empty) in [
        ("null", true),
        ("\"\"", true),
        ("[ ]", true),
        ("{}", true),
        ("0", false),
        ("\" \"", false),
    ] {
        assert_eq!(Raw(text.as_bytes()).is_empty(), empty, "{text}");
    }
}

#[test]
fn the_length_of_a_text_is_near_to_what_it_says() {
    for (text, want) in [
        (r#""""#, Some(0)),
        (r#""abc""#, Some(3)),
        (r#""a\nb\"c\\u""#, Some(7)),
        (r#""\u6f6e\u6c34x""#, Some(7)),
        ("\"潮水\"", Some(6)),
        (r#""\u""#, Some(0)),
        ("5", None),
        ("\"", None),
    ] {
        assert_eq!(Raw(text.as_bytes()).text_len(), want, "{text}");
    }
}
