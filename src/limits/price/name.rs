//! One model, many names: with a date, with `-latest`, behind the names of those who pass it on.

/// Looks a model up under its own name, then without its date, then the same without its first
/// prefix (`models/…`, `openai/…`), and so on to the last part.
pub(super) fn find<T>(model: &str, table: impl Fn(&str) -> Option<T>) -> Option<T> {
    let mut name = model;
    loop {
        let found = table(name).or_else(|| table(undated(name)?));
        if found.is_some() {
            return found;
        }
        name = name.split_once('/')?.1;
    }
}

/// Without `-2025-08-07`, `-20250929`, `@20250929`, `@default` or `-latest`.
fn undated(name: &str) -> Option<&str> {
    if let Some((name, _)) = name.split_once('@') {
        return Some(name);
    }
    if let Some(name) = name.strip_suffix("-latest") {
        return Some(name);
    }
    let cut = ["-dddd-dd-dd", "-dddddddd"].into_iter().find_map(|shape| {
        let (head, tail) = name.split_at_checked(name.len().checked_sub(shape.len())?)?;
        let fits = |(byte, shape)| match shape {
            b'd' => u8::is_ascii_digit(&byte),
            dash => byte == dash,
        };
        tail.bytes().zip(shape.bytes()).all(fits).then_some(head)
    })?;
    (!cut.is_empty()).then_some(cut)
}
