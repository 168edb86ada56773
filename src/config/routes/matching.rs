//! What a route asks of a call, and which routes no call ever reaches.
use std::sync::Arc;

use http::HeaderName;

use crate::config::Route;
use crate::config::read::{At, Reader};
use crate::config::upstream::{header_name, holds_credentials};
use crate::units::glob_covers;

/// Normalised as the gate normalises the paths of requests, so that the two can meet.
pub(super) fn path(reader: &Reader<'_>, at: &At<'_>) -> Option<Arc<str>> {
    const EXPECTED: &str = "a path that starts with /, like /v1";
    let text = reader.text(at, EXPECTED)?;
    let path = text.value.as_ref();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&b);
    let expected = if !path.starts_with('/') {
        EXPECTED
    } else if path.contains(['?', '#']) {
        "a path without query or fragment: rules look at the path alone"
    } else if path.contains('*') {
        "a prefix without `*`: it matches all that is under it"
    } else if !path.bytes().all(allowed) {
        "a path of plain ASCII characters, without % and spaces"
    } else if path.split('/').any(|segment| segment == "." || segment == "..") {
        "a path without `.` and `..`"
    } else {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let joined: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
        return Some(Arc::from(joined));
    };
    reader.wrong(at, text.shown(), expected);
    None
}

/// Globs over headers, in the order of the file.
pub(super) fn headers(reader: &Reader<'_>, at: &At<'_>) -> Vec<(HeaderName, Arc<str>)> {
    let mut headers: Vec<(HeaderName, Arc<str>)> = Vec::new();
    for (name, place, value) in reader.names(at, "names of headers, each with a glob") {
        let Some(name) = header_name(name) else {
            let found = "no name of a header that rules may look at";
            reader.fault(place, &value.path, found, "a header that is not of the connection's own");
            continue;
        };
        if holds_credentials(&name) {
            let found = format!("`{name}`, which holds credentials");
            reader.fault(
                place,
                &value.path,
                found,
                "a header whose value may be seen, like x-tier",
            );
            continue;
        }
        if headers.iter().any(|(other, _)| *other == name) {
            reader.fault(place, &value.path, "the header a second time", "each header once");
            continue;
        }
        let glob = reader.shared(&value, "a glob over the header's value, like gold*");
        headers.extend(glob.map(|glob| (name, glob)));
    }
    headers
}

/// Does `early` take every call that `late` would? A yes is always right.
pub(super) fn shadows(early: &Route, late: &Route) -> bool {
    let path = late.path.strip_prefix(&*early.path);
    let path = path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let covered = |wide: &Option<Arc<str>>, narrow: &Option<Arc<str>>| match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => glob_covers(wide, narrow),
        (Some(_), None) => false,
    };
    let header = |(name, wide): &(HeaderName, Arc<str>)| {
        late.headers.iter().any(|(other, narrow)| other == name && glob_covers(wide, narrow))
    };
    path && early.dialect.is_none()
        && covered(&early.model, &late.model)
        && covered(&early.agent, &late.agent)
        && (early.class.is_none() || early.class == late.class)
        && early.headers.iter().all(header)
}
