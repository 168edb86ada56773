use super::*;

fn asked(kind: Kind, body: &str) -> Question<'_> {
    question(kind, body.as_bytes()).unwrap_or_else(|why| panic!("{why:?}: {body}"))
}

fn said(kind: Kind, body: &str) -> Vec<u8> {
    let mut out = Vec::new();
    asked(kind, body).say(&mut |piece| out.extend_from_slice(piece));
    out
}

fn around(kind: Kind, body: &str) -> Vec<u8> {
    let (mut out, question) = (Vec::new(), asked(kind, body));
    let turn = question.last_turn().unwrap_or_else(|why| panic!("{why:?}: {body}"));
    question.say_around(&turn, &mut |piece| out.extend_from_slice(piece));
    out
}

#[test]
fn a_question_of_each_dialect() {
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5}"#;
    let question = asked(Kind::Chat, chat);
    assert_eq!(question.temperature, Some(0.5));
    assert_eq!(question.last_turn().unwrap().text, "hi");
    let other = r#"{ "temperature" : 0.5, "messages" : [ {"role":"user", "content":"hi"}],"stream":true,"model":"m"}"#;
    assert_eq!(said(Kind::Chat, chat), said(Kind::Chat, other));
    assert_eq!(around(Kind::Chat, chat), around(Kind::Chat, &other.replace("hi", "ho")));
    assert_ne!(said(Kind::Chat, chat), said(Kind::Chat, &other.replace("hi", "ho")));
    let responses = r#"{"model":"m","input":"hi"}"#;
    assert_eq!(asked(Kind::Responses, responses).last_turn().unwrap().text, "hi");
    let gemini =
        r#"{"contents":[{"parts":[{"text":"hi"}]}],"generation_config":{"temperature":1}}"#;
    let question = asked(Kind::Generate, gemini);
    assert_eq!((question.temperature, &*question.last_turn().unwrap().text), (Some(1.0), "hi"));
    let ollama = r#"{"Model":"m","MESSAGES":[{"Role":"user","content":"hi"}]}"#;
    assert_eq!(asked(Kind::OllamaChat, ollama).last_turn().unwrap().text, "hi");
}
