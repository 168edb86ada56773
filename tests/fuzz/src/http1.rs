//! HTTP/1.1 as RFC 9112 writes it, read strictly from whole bytes: what a careful backend would
//! take a request for. What is not in the grammar is `None`.

/// One request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Body,
    /// Bytes of it all, where it is whole.
    pub used: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    Whole(Vec<u8>),
    /// The bytes end before it does.
    Cut,
    /// It is in no grammar.
    Malformed,
}

/// The request at the front of `bytes`; empty lines before it are read over (section 2.2).
pub fn request(bytes: &[u8]) -> Option<Request> {
    let mut reader = Reader { bytes, at: 0 };
    while bytes[reader.at..].starts_with(b"\r\n") {
        reader.at += 2;
    }
    let line = std::str::from_utf8(reader.line()?).ok()?;
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    let fits = is_token(method.as_bytes()) && ["HTTP/1.0", "HTTP/1.1"].contains(&version);
    if !fits || target.is_empty() || !target.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        return None;
    }
    let fields = reader.fields()?;
    let values = |name: &str| {
        let of_name = fields.iter().filter(|(other, _)| other == name);
        of_name.map(|(_, value)| value.as_slice()).collect::<Vec<_>>()
    };
    let body = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => Body::Whole(Vec::new()),
        ([length], []) => reader.counted(decimal(length)?).map_or(Body::Cut, Body::Whole),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => reader.chunked(),
        _ => return None,
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    Some(Request { method, target, fields, body, used: reader.at })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

fn is_token(name: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(tchar)
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// A line without its CR LF; neither stands in it alone.
    fn line(&mut self) -> Option<&'b [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| b"\r\n".contains(byte))?;
        self.at += end + 2;
        rest[end..].starts_with(b"\r\n").then_some(&rest[..end])
    }

    /// Field lines, up to the empty one.
    fn fields(&mut self) -> Option<Vec<(String, Vec<u8>)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let plain = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
            if !is_token(name) || !value.iter().all(plain) {
                return None;
            }
            let name = String::from_utf8(name.to_ascii_lowercase()).ok()?;
            fields.push((name, value.to_vec()));
        }
    }

    fn counted(&mut self, length: u64) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        let body = rest.get(..usize::try_from(length).ok()?);
        self.at += body.map_or(rest.len(), <[u8]>::len);
        body.map(<[u8]>::to_vec)
    }

    fn chunked(&mut self) -> Body {
        let mut body = Vec::new();
        loop {
            if !self.bytes[self.at..].contains(&b'\n') {
                return Body::Cut;
            }
            let Some(size) = self.size() else { return Body::Malformed };
            if size == 0 {
                break;
            }
            let Some(chunk) = self.counted(size) else { return Body::Cut };
            body.extend(chunk);
            match &self.bytes[self.at..] {
                [b'\r', b'\n', ..] => self.at += 2,
                [] | [b'\r'] => return Body::Cut,
                _ => return Body::Malformed,
            }
        }
        // trailers are lines; what they say is not looked at
        while self.bytes[self.at..].contains(&b'\n') {
            match self.line() {
                None => return Body::Malformed,
                Some([]) => return Body::Whole(body),
                Some(_) => {}
            }
        }
        Body::Cut
    }

    /// The line before a chunk.
    fn size(&mut self) -> Option<u64> {
        let line = self.line()?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let behind = &line[digits..];
        let blanks = behind.iter().take_while(|byte| b" \t".contains(byte)).count();
        if digits == 0 || !matches!(behind[blanks..], [] | [b';', ..]) {
            return None;
        }
        u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
    }
}

/// An answer's status and body, read leniently in its head (any line end) as clients do, and
/// strictly in its body. `None` where that has no clear end. With the bytes of it all.
pub fn answer(mut bytes: &[u8], to_head: bool) -> Option<(u16, Vec<u8>, usize)> {
    let all = bytes.len();
    let (status, lines) = loop {
        let (lines, used) = head(bytes);
        let first = lines.first()?;
        let status = std::str::from_utf8(first.get(9..12)?).ok()?.parse().ok()?;
        bytes = &bytes[used..];
        if status == 101 || status >= 200 {
            break (status, lines);
        }
    };
    let values = |name: &str| {
        let of_name = move |line: &&[u8]| {
            let (field, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            field.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii().to_vec())
        };
        lines[1..].iter().filter_map(of_name).collect::<Vec<_>>()
    };
    let mut reader = Reader { bytes, at: 0 };
    let body = match (values("content-length").first(), values("transfer-encoding").first()) {
        _ if to_head || matches!(status, 101 | 204 | 304) => Vec::new(),
        (Some(length), None) => reader.counted(decimal(length)?)?,
        (None, Some(_)) => match reader.chunked() {
            Body::Whole(body) => body,
            Body::Cut | Body::Malformed => return None,
        },
        (None, None) => reader.counted(bytes.len() as u64)?,
        (Some(_), Some(_)) => return None,
    };
    Some((status, body, all - bytes.len() + reader.at))
}

/// The lines of a head and its length; empty lines before it are read over.
fn head(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[at..at + end];
        at += end + 1;
        match line.strip_suffix(b"\r").unwrap_or(line) {
            [] if lines.is_empty() => {}
            [] => break,
            line => lines.push(line),
        }
    }
    (lines, at)
}
