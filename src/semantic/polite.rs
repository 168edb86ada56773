//! Takes out what is said for politeness: greetings, thanks, lead-ins, fillers.
//!
//! Only where it cannot be what the text is about: "how do you say thanks" keeps its thanks,
//! "hello world in Python" its hello, "how to please my boss" its please. The phrases stand in
//! `data/lexicon.txt`.
use super::lexicon::{self, List};
use super::words::{Gap, Kind, Words};

/// Takes politeness out.
pub fn strip(words: &mut Words) {
    while lead(words).or_else(|| end(words)).is_some() {}
    inner(words);
    if let Some(first) = words.list.first_mut() {
        first.gap = Gap::Stop;
    }
}

/// One phrase at the beginning.
fn lead(words: &mut Words) -> Option<()> {
    let longest = |list| lexicon::longest(list, words, 0);
    let pause = |length: usize| words.list.get(length).is_some_and(|next| next.gap > Gap::Space);
    let next = |list, length: usize| lexicon::has(list, words.at(length).unwrap_or_default());
    // "hi, all my cards" greets nobody but "hi all" does
    let unbroken = |length: usize| words.list[1..length].iter().all(|word| word.gap == Gap::Space);
    let greeting = longest(List::Greetings)
        .map(|length| if unbroken(length) { length } else { 1 })
        .filter(|&length| pause(length) || !next(List::GoesOnWithGreeting, length));
    let filler = || {
        let please = is_please(words.at(0).unwrap_or_default());
        let begins =
            |length: usize| pause(length) || next(List::Openers, length) || please && length == 1;
        longest(List::Fillers).filter(|&length| begins(length))
    };
    let lead = || longest(List::Leads).filter(|&length| next(List::Wh, length));
    let length = greeting.or_else(filler).or_else(lead)?;
    // a text that is nothing but polite stays what it is
    if length >= words.list.len() {
        return None;
    }
    words.list.drain(..length);
    Some(())
}

/// One phrase at the end: the longest.
fn end(words: &mut Words) -> Option<()> {
    let all = words.list.len();
    let at = (all.saturating_sub(6).max(1)..all)
        .find(|&at| lexicon::longest(List::Ends, words, at) == Some(all - at))?;
    let pause = words.list[at].gap > Gap::Space;
    // what is said in full, or never said but so, hardly goes on anything
    let plain = all - at < 3 && !matches!(words.at(at), Some("pls" | "plz" | "thx"));
    let list = if plain { List::BeforeWhatIsMeant } else { List::Sayers };
    // "Who sings Thank You" names a song
    let titled = words.list[at].name;
    let meant = titled || lexicon::has(list, words.at(at - 1).unwrap_or_default());
    if meant && !pause {
        return None;
    }
    words.list.truncate(at);
    Some(())
}

/// `please` between other words, and `could you` before one.
fn inner(words: &mut Words) {
    let mut at = 0;
    while at < words.list.len() {
        let text = |at: usize| words.at(at).unwrap_or_default();
        let (before, after) = (at.checked_sub(1).map_or("", text), text(at + 1));
        let someone = matches!(after, "me" | "my" | "him" | "her" | "them" | "everyone");
        let verb = lexicon::has(List::BeforeWhatIsMeant, before)
            || matches!(before, "will" | "you") && someone;
        let please = words.list[at].kind == Kind::Word && is_please(text(at));
        if !please || verb || after.is_empty() {
            at += 1;
            continue;
        }
        // asked so, it is no question
        let asked = before == "you" && at == 2;
        let asked = asked && matches!(text(0), "can" | "could" | "will" | "would");
        words.list.remove(at);
        if asked {
            words.list.drain(..2);
            at = 0;
        }
    }
}

fn is_please(word: &str) -> bool {
    matches!(word, "please" | "pls" | "plz" | "kindly")
}
