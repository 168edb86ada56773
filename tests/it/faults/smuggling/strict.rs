//! A reader of HTTP/1.1 requests by the letter of RFC 9112, of the test's own.
//!
//! What this reader takes for a request is one request to everybody. It stops at the first thing
//! that two readers could read differently. The canonical form, for what reaches a backend, is
//! narrower still: one spelling for everything.

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub body: Vec<u8>,
}

/// What stands behind the last whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    End,
    /// A request that is right as far as it goes.
    Part,
    /// No request.
    Bad(&'static str),
}

/// How narrow the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Strict,
    Canonical,
}

/// Why a request ends here: more is needed, or nothing will help.
enum Stop {
    More,
    Bad(&'static str),
}

type Step<T> = Result<T, Stop>;

/// All requests at the front of `bytes`.
pub fn read(bytes: &[u8], form: Form) -> (Vec<Request>, Rest) {
    let mut reader = Reader { left: bytes, form };
    let mut all = Vec::new();
    loop {
        if reader.form == Form::Strict {
            // a server is to skip empty lines before a request line (RFC 9112 2.2)
            while let Some(rest) = reader.left.strip_prefix(b"\r\n") {
                reader.left = rest;
            }
        }
        if reader.left.is_empty() || (form == Form::Strict && reader.left == b"\r") {
            return (all, Rest::End);
        }
        match reader.request() {
            Ok(request) => all.push(request),
            Err(Stop::More) => return (all, Rest::Part),
            Err(Stop::Bad(why)) => return (all, Rest::Bad(why)),
        }
    }
}

/// Where a body ends.
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

#[derive(Default)]
struct Fields {
    hosts: Vec<String>,
    lengths: Vec<String>,
    codings: Vec<String>,
}

struct Reader<'b> {
    left: &'b [u8],
    form: Form,
}

fn sure(holds: bool, otherwise: &'static str) -> Step<()> {
    if holds { Ok(()) } else { Err(Stop::Bad(otherwise)) }
}

fn is_token(text: &[u8]) -> bool {
    let mark = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
}

impl<'b> Reader<'b> {
    fn request(&mut self) -> Step<Request> {
        let (method, target, version) = self.request_line()?;
        let fields = self.fields()?;
        let one_host = fields.hosts.len() == 1 && is_host(&fields.hosts[0]);
        sure(one_host || (fields.hosts.is_empty() && version == "HTTP/1.0"), "host")?;
        let target = self.target(&method, &target, fields.hosts.first())?;
        let framing = self.framing(&fields, &version)?;
        let body = match framing {
            Framing::Length(length) => self.take(length)?.to_vec(),
            Framing::Chunked => self.chunked()?,
        };
        Ok(Request { method, target, body })
    }

    fn take(&mut self, count: usize) -> Step<&'b [u8]> {
        let taken = self.left.get(..count).ok_or(Stop::More)?;
        self.left = &self.left[count..];
        Ok(taken)
    }

    /// A line without its CR LF; neither may stand alone in it, nor may a NUL stand anywhere.
    fn line(&mut self) -> Step<&'b [u8]> {
        let stop = self.left.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0));
        let at = stop.ok_or(Stop::More)?;
        match &self.left[at..] {
            [b'\r'] => Err(Stop::More),
            [b'\r', b'\n', ..] => {
                let line = &self.left[..at];
                self.left = &self.left[at + 2..];
                Ok(line)
            }
            [b'\n', ..] => Err(Stop::Bad("bare LF")),
            [0, ..] => Err(Stop::Bad("NUL")),
            _ => Err(Stop::Bad("bare CR")),
        }
    }

    fn request_line(&mut self) -> Step<(String, String, String)> {
        let line = self.line()?;
        let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [method, target, version] = parts[..] else { return Err(Stop::Bad("request line")) };
        sure(is_token(method), "method")?;
        sure(target.iter().all(u8::is_ascii_graphic) && !target.contains(&b'#'), "target")?;
        let known: &[&[u8]] = match self.form {
            Form::Strict => &[b"HTTP/1.1", b"HTTP/1.0"],
            Form::Canonical => &[b"HTTP/1.1"],
        };
        sure(known.contains(&version), "version")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(method), text(target), text(version)))
    }

    fn target(&self, method: &str, target: &str, host: Option<&String>) -> Step<String> {
        // one request, whoever takes it; but not on to a backend
        let elsewhere = method == "CONNECT" || method == "TRACE";
        sure(self.form == Form::Strict || !elsewhere, "method")?;
        if target.starts_with('/') {
            return Ok(target.to_owned());
        }
        sure(self.form == Form::Strict, "target")?;
        if target == "*" {
            sure(method == "OPTIONS", "target")?;
            return Ok(target.to_owned());
        }
        let rest = target.strip_prefix("http://").ok_or(Stop::Bad("target"))?;
        let at = rest.find('/').unwrap_or(rest.len());
        sure(Some(&rest[..at].to_owned()) == host, "two hosts")?;
        Ok(if at == rest.len() { "/".to_owned() } else { rest[at..].to_owned() })
    }

    fn fields(&mut self) -> Step<Fields> {
        let mut fields = Fields::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = self.field(line)?;
            match name.as_str() {
                "host" => fields.hosts.push(value),
                "content-length" => fields.lengths.push(value),
                "transfer-encoding" => fields.codings.push(value),
                _ => {}
            }
        }
    }

    fn field(&self, line: &[u8]) -> Step<(String, String)> {
        sure(!matches!(line[0], b' ' | b'\t'), "folded")?;
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Bad("no colon"))?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        sure(is_token(name), "name")?;
        let fine = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        sure(value.iter().all(fine), "control byte")?;
        // white space is this and no other
        let value: String = value.iter().map(|byte| char::from(*byte)).collect();
        let trimmed = value.trim_matches([' ', '\t']);
        if self.form == Form::Canonical {
            sure(value == format!(" {trimmed}"), "white space")?;
            sure(!name.iter().any(u8::is_ascii_uppercase), "capitals")?;
        }
        Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), trimmed.to_owned()))
    }

    fn framing(&self, fields: &Fields, version: &str) -> Step<Framing> {
        match (&fields.lengths[..], &fields.codings[..]) {
            ([], []) => Ok(Framing::Length(0)),
            ([length], []) => {
                let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                sure(digits && length.len() < 17, "length")?;
                sure(
                    self.form == Form::Strict || length == "0" || !length.starts_with('0'),
                    "zeros",
                )?;
                length.parse().map(Framing::Length).map_err(|_| Stop::Bad("length"))
            }
            ([], [coding]) => {
                let chunked = match self.form {
                    Form::Strict => coding.eq_ignore_ascii_case("chunked"),
                    Form::Canonical => coding == "chunked",
                };
                sure(chunked && version == "HTTP/1.1", "coding")?;
                Ok(Framing::Chunked)
            }
            _ => Err(Stop::Bad("two framings")),
        }
    }

    fn chunked(&mut self) -> Step<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            sure((1..17).contains(&digits), "size of a chunk")?;
            let (size, extension) = line.split_at(digits);
            // white space may stand before a semicolon; some senders pad the size with it as well, which
            // no reader takes for another size
            let blanks = extension.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let marked = matches!(extension.get(blanks), None | Some(b';'));
            sure(extension.is_empty() || (marked && self.form == Form::Strict), "extension")?;
            let fine = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            sure(extension.iter().all(fine), "control byte")?;
            let size = String::from_utf8_lossy(size);
            let size = usize::from_str_radix(&size, 16).map_err(|_| Stop::Bad("size"))?;
            if size == 0 {
                break;
            }
            let data = self.left.get(..size);
            body.extend_from_slice(data.ok_or(Stop::More)?);
            self.left = &self.left[size..];
            match self.left {
                [b'\r', b'\n', ..] => self.left = &self.left[2..],
                [] | [b'\r'] => return Err(Stop::More),
                _ => return Err(Stop::Bad("end of a chunk")),
            }
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(body);
            }
            sure(self.form == Form::Strict, "trailers")?;
            self.field(line)?;
        }
    }
}

fn is_host(host: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    !host.is_empty() && host.bytes().all(fine)
}

#[test]
fn the_reader_reads_by_the_letter() {
    let head = |lines: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let of = |text: &str| read(text.as_bytes(), Form::Strict);
    let body = |text: &str| of(text).0.into_iter().map(|one| one.body).collect::<Vec<_>>();
    assert_eq!(body(&(head("Content-Length: 2\r\n") + "ab" + &head(""))), [&b"ab"[..], b""]);
    let chunked = head("Transfer-Encoding: Chunked\r\n");
    assert_eq!(body(&format!("{chunked}2;x=y\r\nab\r\n1\r\nc\r\n0\r\nt: v\r\n\r\n")), [b"abc"]);
    for part in ["POST /x", &head("Content-Length: 3\r\n"), &format!("{chunked}2\r\na")] {
        assert_eq!(of(part), (vec![], Rest::Part), "{part:?}");
    }
    for (bad, why) in [
        (head("X: a\n"), "bare LF"),
        (head("X: a\rb\r\n"), "bare CR"),
        (head("X: a\0\r\n"), "NUL"),
        (head("X: a\r\n b\r\n"), "folded"),
        (head("X : a\r\n"), "name"),
        (head("Host: b\r\n"), "host"),
        (head("Content-Length: +1\r\n"), "length"),
        (head("Content-Length: 1\r\nContent-Length: 1\r\n"), "two framings"),
        (head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), "two framings"),
        (head("Transfer-Encoding: chunked, chunked\r\n"), "coding"),
        (format!("{chunked}0x1\r\n"), "extension"),
        (format!("{chunked}1 1\r\n"), "extension"),
        (format!("{chunked}\r\n"), "size of a chunk"),
        (format!("{chunked}1\r\nab\r\n"), "end of a chunk"),
        (format!("{chunked}0\r\nno trailer\r\n"), "no colon"),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "two hosts"),
        ("GET  / HTTP/1.1\r\n".to_owned(), "request line"),
    ] {
        assert_eq!(of(&bad), (vec![], Rest::Bad(why)), "{bad:?}");
    }
    let canonical = |text: &str| read(text.as_bytes(), Form::Canonical).1;
    for (text, rest) in [
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\na", Rest::End),
        ("POST /x HTTP/1.1\r\nHost: a\r\n\r\n", Rest::Bad("capitals")),
        ("POST /x HTTP/1.1\r\nhost:a\r\n\r\n", Rest::Bad("white space")),
        ("POST http://a/ HTTP/1.1\r\nhost: a\r\n\r\n", Rest::Bad("target")),
        ("TRACE /x HTTP/1.1\r\nhost: a\r\n\r\n", Rest::Bad("method")),
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 01\r\n\r\na", Rest::Bad("zeros")),
    ] {
        assert_eq!(canonical(text), rest, "{text:?}");
    }
}
