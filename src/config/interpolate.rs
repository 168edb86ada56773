//! `${NAME}` and `${NAME:-default}` in values, from the environment. `$${` is a plain `${`.
//!
//! As in a shell, the default stands in for a variable that is unset or empty. A variable
//! without a default must be set. What it gives is data and is not expanded again.
use std::borrow::Cow;

/// A value, and whether it may be shown.
#[derive(Debug)]
pub(super) struct Expanded<'n> {
    pub value: Cow<'n, str>,
    raw: &'n str,
    from_environment: bool,
}

#[derive(Debug)]
pub(super) struct ExpandFault {
    pub found: String,
    pub expected: &'static str,
}

/// Longest part of a value that is shown, in characters.
const SHOWN: usize = 80;

impl<'n> Expanded<'n> {
    pub fn plain(raw: &'n str) -> Self {
        Self { value: Cow::Borrowed(raw), raw, from_environment: false }
    }

    /// For `found`. A value from the environment is never shown, nor is one that could be a
    /// credential in the wrong place.
    pub fn shown(&self) -> String {
        if !self.from_environment && may_be_credential(self.raw) {
            let letters = self.raw.chars().count();
            return format!("{letters} characters that may be a credential");
        }
        self.shown_path()
    }

    /// For paths of files, which may be long and hold digits.
    pub fn shown_path(&self) -> String {
        if self.from_environment {
            return format!("the value of {}", names(self.raw));
        }
        let text: String = self.raw.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        let more = if self.raw.chars().nth(SHOWN).is_some() { "…" } else { "" };
        format!("`{text}{more}`")
    }
}

/// A known beginning, a user before a host, or a long run of letters with digits among them.
fn may_be_credential(text: &str) -> bool {
    const BEGINNINGS: [&str; 9] =
        ["tgk_", "whsec_", "sk-", "sk_", "gsk_", "xai-", "AIza", "hf_", "Bearer "];
    let of_word = |c: char| c.is_ascii_alphanumeric() || "-_+=".contains(c);
    let long = |run: &str| run.len() >= 20 && run.contains(|c: char| c.is_ascii_digit());
    text.contains('@')
        || BEGINNINGS.iter().any(|beginning| text.contains(beginning))
        || text.split(|c| !of_word(c)).any(long)
}

/// `${A} and ${B}`, without the defaults that stand in the file.
fn names(raw: &str) -> String {
    let names: Vec<String> = raw
        .split("${")
        .skip(1)
        .map(|part| part.split([':', '}']).next().unwrap_or_default())
        .map(|name| format!("${{{name}}}"))
        .collect();
    names.join(" and ")
}

/// Fills in the variables of `raw`.
pub(super) fn expand<'n>(
    raw: &'n str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded<'n>, ExpandFault> {
    if !raw.contains("${") {
        return Ok(Expanded::plain(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    let mut from_environment = false;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = from[2..].split_once('}') else {
            return Err(ExpandFault {
                found: "a `${` without its `}`".to_owned(),
                expected: "${NAME}, ${NAME:-default}, or $${ for a plain ${",
            });
        };
        out.push_str(&variable(inside, env)?);
        from_environment = true;
        rest = after;
    }
    out.push_str(rest);
    Ok(Expanded { value: Cow::Owned(out), raw, from_environment })
}

fn variable(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandFault> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !well_formed {
        return Err(ExpandFault {
            found: "a `${…}` that holds no name of a variable".to_owned(),
            expected: "${NAME} or ${NAME:-default}; letters, digits and _ in the name",
        });
    }
    match (env(name), default) {
        (Some(value), _) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (Some(value), None) => Ok(value),
        (None, None) => Err(ExpandFault {
            found: format!("${{{name}}}, which is not set in the environment"),
            expected: "a variable that is set, or ${NAME:-default}",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in() {
        for (raw, want) in [
            ("plain", "plain"),
            ("${A}", "one"),
            ("x${A}y${A}z", "xoneyonez"),
            ("${B:-two}", "two"),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${B:-}", ""),
            ("${B:-a:-b}", "a:-b"),
            ("$${A}", "${A}"),
            ("$A $ $$", "$A $ $$"),
            ("${NESTED}", "${A}"),
        ] {
            assert_eq!(expand(raw, &env).expect(raw).value, want, "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_said() {
        for (raw, word) in [
            ("${B}", "${B}, which is not set"),
            ("${A", "without its"),
            ("${}", "no name"),
            ("${1}", "no name"),
            ("${A-b}", "no name"),
        ] {
            assert!(expand(raw, &env).expect_err(raw).found.contains(word), "{raw}");
        }
    }

    #[test]
    fn no_value_that_may_be_secret_is_shown() {
        let shown = |raw| expand(raw, &env).expect("set").shown();
        assert_eq!(shown("30"), "`30`");
        assert_eq!(shown("${A}/${B:-hidden}"), "the value of ${A} and ${B}");
        let key = "sk-proj-abcdefghijklmnop";
        assert!(!shown(key).contains("sk-"));
        assert!(!shown("http://user:pass@host").contains("pass"));
        assert!(!shown("Bearer abc").contains("abc"));
        assert!(!shown("abcdefghij0123456789").contains("abc"));
        assert_eq!(shown("my-very-long-name-of-an-upstream"), "`my-very-long-name-of-an-upstream`");
        assert!(shown(&"é\n".repeat(100)).ends_with("…`"));
    }
}
