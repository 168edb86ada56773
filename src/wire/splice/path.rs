//! Another model's name in a path that carries one.
use std::borrow::Cow;

/// The same path, for another model: `/v1beta/models/NAME:generateContent`, Azure's
/// `/openai/deployments/NAME/…`, and `/v1/models/NAME`, where a name may go over several segments.
/// `model_in_path` is what [`super::super::Endpoint::model`] found there, as it was written; `path`
/// may have anything in front, and no query. What cannot stand in a path is percent-encoded.
/// `None`: the path does not carry that model, or the new name can be no segment.
pub fn path_with_model<'p>(path: &'p str, model_in_path: &str, to: &str) -> Option<Cow<'p, str>> {
    let at = Place::of(path, model_in_path)?;
    let (front, behind) = (&path[..at.start], &path[at.start + model_in_path.len()..]);
    // `models/NAME` is a model's full name; the path has the first half already
    let parent = front.strip_suffix('/').and_then(|front| front.rsplit('/').next());
    let to = parent.and_then(|parent| to.strip_prefix(parent)?.strip_prefix('/')).unwrap_or(to);
    let dots = |segment: &str| matches!(segment, "" | "." | "..");
    if dots(to) || at.slashes && to.split('/').any(dots) {
        return None;
    }
    if to == model_in_path {
        return Some(Cow::Borrowed(path));
    }
    let mut changed = String::with_capacity(path.len() + to.len());
    changed.push_str(front);
    for byte in to.bytes() {
        if stands(byte) || at.slashes && byte == b'/' {
            changed.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
            changed.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    changed.push_str(behind);
    Some(Cow::Owned(changed))
}

struct Place {
    /// Where the name begins.
    start: usize,
    /// It is the end of the path, so its slashes are its own.
    slashes: bool,
}

impl Place {
    fn of(path: &str, model: &str) -> Option<Self> {
        if model.is_empty() {
            return None;
        }
        let deployments =
            path.find("openai/deployments/").map(|at| at + "openai/deployments/".len());
        if let Some(start) = deployments
            && path[start..].strip_prefix(model)?.starts_with('/')
        {
            return Some(Self { start, slashes: false });
        }
        let verb = path.rfind('/').map_or(0, |slash| slash + 1);
        if path[verb..].strip_prefix(model).is_some_and(|verb| verb.starts_with(':')) {
            return Some(Self { start: verb, slashes: false });
        }
        let start = path.len().checked_sub(model.len())?;
        let named = path.ends_with(model) && path[..start].ends_with("/models/");
        named.then_some(Self { start, slashes: true })
    }
}

/// What a segment may hold as it is (RFC 3986, `pchar`).
fn stands(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::endpoint;

    #[test]
    fn exactly_the_models_segment_changes() {
        for (path, to, want) in [
            ("/v1beta/models/a:generateContent", "b", "/v1beta/models/b:generateContent"),
            ("/v1beta/models/models:countTokens", "b", "/v1beta/models/b:countTokens"),
            (
                "/v1beta/models/a:streamGenerateContent",
                "models/b",
                "/v1beta/models/b:streamGenerateContent",
            ),
            (
                "/v1beta/tunedModels/a:generateContent",
                "tunedModels/b",
                "/v1beta/tunedModels/b:generateContent",
            ),
            (
                "/v1/projects/a/locations/a/publishers/a/models/a:generateContent",
                "b",
                "/v1/projects/a/locations/a/publishers/a/models/b:generateContent",
            ),
            (
                "/openai/deployments/openai/chat/completions",
                "b",
                "/openai/deployments/b/chat/completions",
            ),
            (
                "/openai/deployments/a/embeddings",
                "größe 1/2?",
                "/openai/deployments/gr%C3%B6%C3%9Fe%201%2F2%3F/embeddings",
            ),
            ("/v1/models/a", "b", "/v1/models/b"),
            ("/v1/models/org/a", "meta/b c", "/v1/models/meta/b%20c"),
            ("/v1beta/models/a", "b:c@d", "/v1beta/models/b:c@d"),
            ("/v1beta/models/a%2Fb:generateContent", "c", "/v1beta/models/c:generateContent"),
            ("/v1beta/models/x:y:generateContent", "c", "/v1beta/models/c:generateContent"),
        ] {
            let method = if path.contains(':') || path.contains("deploy") {
                http::Method::POST
            } else {
                http::Method::GET
            };
            let model = endpoint(&method, path).model.unwrap_or_else(|| panic!("{path}"));
            assert_eq!(path_with_model(path, model, to).as_deref(), Some(want));
            let same = path_with_model(path, model, model);
            assert!(matches!(same, Some(Cow::Borrowed(same)) if same == path), "{path}");
        }
        let below = path_with_model("/google/v1beta/models/a:generateContent", "a", "b");
        assert_eq!(below.as_deref(), Some("/google/v1beta/models/b:generateContent"));
    }

    #[test]
    fn elsewhere_and_for_what_is_no_segment_there_is_none() {
        for (path, model, to) in [
            ("/v1/chat/completions", "completions", "b"),
            ("/v1beta/models/ab:generateContent", "a", "b"),
            ("/v1beta/models/ab:generateContent", "b", "c"),
            ("/openai/deployments/ab/embeddings", "a", "b"),
            ("/v1/models/ab", "b", "c"),
            ("/v1/models/a", "", "c"),
            ("/v1/models/a", "a", ""),
            ("/v1/models/a", "a", ".."),
            ("/v1/models/a", "a", "x/../y"),
            ("/v1/models/a", "a", "x//y"),
            ("/v1beta/models/a:generateContent", "a", "."),
            ("/v1beta/models/a:generateContent", "a", "models/"),
        ] {
            assert_eq!(path_with_model(path, model, to), None, "{path} {model} {to}");
        }
    }
}
