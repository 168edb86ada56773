//! The model that a query names. A backend decodes what stands there, and of two takes one or the
//! other; so it is decoded here, and two are a fault.
use std::rc::Rc;

/// It names more than one, or none that can be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Unclear;

/// Azure calls it the deployment. Some servers mind no case.
pub fn model(query: Option<&str>) -> Result<Option<Rc<str>>, Unclear> {
    let mut found = None;
    for part in query.unwrap_or("").split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        // a name that cannot be read is none of these
        let Some(name) = decoded(name) else { continue };
        if !["model", "deployment"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            continue;
        }
        let value = decoded(value).ok_or(Unclear)?;
        if found.replace(value).is_some() {
            return Err(Unclear);
        }
    }
    Ok(found.filter(|model| !model.is_empty()).map(Rc::from))
}

/// As forms are encoded. `None`: it is not, or is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_is_read_as_a_backend_reads_it() {
        for (query, want) in [
            ("", Ok(None)),
            ("x=1&y", Ok(None)),
            ("model=", Ok(None)),
            ("a=b&model=gpt-6&c", Ok(Some("gpt-6"))),
            ("api-version=1&deployment=my%20own+one", Ok(Some("my own one"))),
            ("%6d%6F%64el=%67pt", Ok(Some("gpt"))),
            ("Model=m", Ok(Some("m"))),
            ("model%zz=m&xmodel=n", Ok(None)),
            ("model=m&model=m", Err(Unclear)),
            ("model=&model=m", Err(Unclear)),
            ("model=m&%6dodel=n", Err(Unclear)),
            ("model=m&deployment=n", Err(Unclear)),
            ("model&MODEL=m", Err(Unclear)),
            ("model=%6", Err(Unclear)),
            ("model=%ff", Err(Unclear)),
            ("model=%+1", Err(Unclear)),
        ] {
            let want = want.map(|model| model.map(Rc::from));
            assert_eq!(model(Some(query)), want, "{query}");
        }
        assert_eq!(model(None), Ok(None));
    }
}
