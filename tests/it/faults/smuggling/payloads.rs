//! The payloads: what has been tried on proxies to make two readers disagree, in our own words.
//!
//! In a text, `{T}` is the target, `{H}` a whole request that must stay hidden or be answered,
//! `{HL}` and `{HX}` its length (decimal, hexadecimal). Letters up to U+00FF are single bytes.

/// Bytes for one connection.
pub struct Payload {
    pub number: usize,
    pub name: String,
    pub bytes: Vec<u8>,
    /// Some of it is a request that a backend may see.
    pub fine: bool,
}

impl Payload {
    fn probe_target(&self) -> String {
        format!("/probe?p={}", self.number)
    }

    /// The request that follows on the same connection.
    pub fn probe(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", self.probe_target()).into_bytes()
    }

    pub fn probe_name(&self) -> String {
        format!("GET {} 0", self.probe_target())
    }

    /// Whether a request with this target belongs to it.
    pub fn is_of(&self, target: &str) -> bool {
        target.ends_with(&format!("?p={}", self.number))
    }
}

/// A row: its name, the text, and whether some of it may be seen by a backend.
type Row = (&'static str, String, bool);

/// All payloads for a target.
pub fn all(target: &str) -> Vec<Payload> {
    let rows = [lengths(), codings(), both(), chunks(), trailers(), starts(), hosts(), fields()];
    let rows = rows.into_iter().chain([line_ends(), hidden(), protocols()]).flatten();
    rows.enumerate()
        .map(|(number, (name, text, fine))| {
            let secret = format!("GET /hidden?p={number} HTTP/1.1\r\nHost: a\r\n\r\n");
            let text = text
                .replace("{T}", &format!("{target}?p={number}"))
                .replace("{HL}", &secret.len().to_string())
                .replace("{HX}", &format!("{:x}", secret.len()))
                .replace("{H}", &secret);
            let bytes = text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?'));
            Payload { number, name: format!("{number} {name}"), bytes: bytes.collect(), fine }
        })
        .collect()
}

fn bad(name: &'static str, text: impl Into<String>) -> Row {
    (name, text.into(), false)
}

fn fine(name: &'static str, text: impl Into<String>) -> Row {
    (name, text.into(), true)
}

fn post(lines: &str, rest: &str) -> String {
    format!("POST {{T}} HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{rest}")
}

/// Five bytes under these lines.
fn five(lines: &str) -> String {
    post(lines, "01234")
}

/// One chunk, the end, and a request behind them, under these lines.
fn coded(lines: &str) -> String {
    post(lines, "1\r\na\r\n0\r\n\r\n{H}")
}

fn chunked(rest: &str) -> String {
    post("Transfer-Encoding: chunked", rest)
}

fn lengths() -> Vec<Row> {
    vec![
        fine("a length", five("Content-Length: 5")),
        fine("a length with much white space", five("Content-Length: \t 5 \t")),
        bad("twice the same", five("Content-Length: 5\r\nContent-Length: 5")),
        bad("short, then long", post("Content-Length: 0\r\nContent-Length: {HL}", "{H}")),
        bad("long, then short", post("Content-Length: {HL}\r\nContent-Length: 0", "{H}")),
        bad("twice in other letters", five("content-length: 5\r\nCONTENT-LENGTH: 5")),
        bad("with another line between", five("Content-Length: 5\r\nX: y\r\nContent-Length: 6")),
        bad("a list of equals", five("Content-Length: 5, 5")),
        bad("a list", five("Content-Length: 5,0")),
        bad("a list with a hole", five("Content-Length: ,5")),
        bad("a plus", five("Content-Length: +5")),
        bad("a minus", five("Content-Length: -5")),
        bad("minus nothing", five("Content-Length: -0")),
        bad("hexadecimal", five("Content-Length: 0x5")),
        bad("octal", post("Content-Length: 010", "0123456789")),
        bad("a fraction", five("Content-Length: 5.0")),
        bad("an exponent", five("Content-Length: 5e0")),
        bad("an underscore", post("Content-Length: 1_0", "0123456789")),
        bad("a space between digits", post("Content-Length: 1 0", "0123456789")),
        bad("nothing", five("Content-Length:")),
        bad("a word", five("Content-Length: five")),
        bad("quoted", five("Content-Length: \"5\"")),
        bad("a parameter", five("Content-Length: 5;x=y")),
        bad("over 64 bits by five", five("Content-Length: 18446744073709551621")),
        bad("over 32 bits by five", five("Content-Length: 4294967301")),
        bad("digits of another script", five("Content-Length: \u{d9}\u{a5}")),
        bad("a no-break space", five("Content-Length: \u{a0}5")),
        bad("a vertical tab before", five("Content-Length:\u{b}5")),
        bad("a vertical tab behind", five("Content-Length: 5\u{b}")),
        bad("a form feed", five("Content-Length:\u{c}5")),
        bad("a NUL behind", five("Content-Length: 5\0")),
        bad("a NUL in the name", five("Content-Length\0: 5")),
        bad("a space before the colon", five("Content-Length : 5")),
        bad("a tab before the colon", five("Content-Length\t: 5")),
        bad("a control byte before the name", five("\u{b}Content-Length: 5")),
        bad("a folded length", five("Content-Length:\r\n 5")),
        bad("a length folded on", five("Content-Length: 5\r\n 0")),
        bad("a length behind a folded line", five("X: y\r\n\tz\r\nContent-Length: 5")),
        bad("a length behind a bare CR", five("X: y\rContent-Length: 5")),
        bad("a length behind a bare LF", five("X: y\nContent-Length: 5")),
        bad("a shorter body", post("Content-Length: 1000", "01234")),
    ]
}

fn codings() -> Vec<Row> {
    let te = |value: &str| coded(&format!("Transfer-Encoding:{value}"));
    vec![
        fine("chunked", te(" chunked")),
        fine("chunked without a space", te("chunked")),
        fine("chunked in other letters", te(" ChUnKeD")),
        fine("chunked with tabs", te("\tchunked\t")),
        bad("chunked twice", te(" chunked, chunked")),
        bad("chunked on two lines", te(" chunked\r\nTransfer-Encoding: chunked")),
        bad("chunked, then nonsense", te(" chunked\r\nTransfer-Encoding: cow")),
        bad("nonsense, then chunked", te(" cow\r\nTransfer-Encoding: chunked")),
        bad("a list with nonsense", te(" cow, chunked")),
        bad("identity behind", te(" chunked, identity")),
        bad("identity before", te(" identity, chunked")),
        bad("identity", te(" identity")),
        bad("gzip", te(" gzip")),
        bad("gzip before", te(" gzip, chunked")),
        bad("nothing", te("")),
        bad("a comma before", te(" ,chunked")),
        bad("a comma behind", te(" chunked,")),
        bad("a parameter", te(" chunked;q=0.5")),
        bad("quoted", te(" \"chunked\"")),
        bad("single quotes", te(" 'chunked'")),
        bad("a letter before", te(" xchunked")),
        bad("a letter behind", te(" chunkedx")),
        bad("a space within", te(" chun ked")),
        bad("a vertical tab before", te("\u{b}chunked")),
        bad("a vertical tab behind", te(" chunked\u{b}")),
        bad("a form feed", te(" \u{c}chunked")),
        bad("a NUL", te(" chunked\0")),
        bad("a no-break space", te("\u{a0}chunked")),
        bad("the next line of Unicode", te(" chunked\u{85}")),
        bad("a sign of degrees Kelvin", te(" chun\u{e2}\u{84}\u{aa}ed")),
        bad("a space before the colon", coded("Transfer-Encoding : chunked")),
        bad("a tab before the colon", coded("Transfer-Encoding\t: chunked")),
        bad("a NUL in the name", coded("Transfer-Encoding\0: chunked")),
        bad("a space before the name", coded("X: y\r\n Transfer-Encoding: chunked")),
        bad("folded", te("\r\n chunked")),
        bad("folded by a tab", te("\r\n\tchunked")),
        bad("half of it folded", te(" chu\r\n nked")),
        bad("behind a bare CR", coded("X: y\rTransfer-Encoding: chunked")),
        bad("behind a bare LF", coded("X: y\nTransfer-Encoding: chunked")),
        bad("before a bare LF", te(" chunked\nX: y")),
        bad("before a bare CR", te(" chunked\rX: y")),
    ]
}

/// Two framings at once, or one that is hidden from one of two readers.
fn both() -> Vec<Row> {
    let (te, cl) = ("Transfer-Encoding: chunked", "Content-Length");
    vec![
        bad("CL.TE", coded(&format!("{cl}: 11\r\n{te}"))),
        bad("TE.CL", coded(&format!("{te}\r\n{cl}: 3"))),
        bad("CL.TE with a request inside", post(&format!("{cl}: {{HL}}\r\n{te}"), "0\r\n\r\n{H}")),
        bad(
            "TE.CL with a request inside",
            post(&format!("{te}\r\n{cl}: 4"), "{HX}\r\n{H}\r\n0\r\n\r\n"),
        ),
        bad("nothing to read, and chunks", coded(&format!("{cl}: 0\r\n{te}"))),
        bad("a bad length beside", coded(&format!("{cl}: x\r\n{te}"))),
        bad("a bad coding beside", five(&format!("{cl}: 5\r\nTransfer-Encoding: cow"))),
        bad("an empty coding beside", five(&format!("{cl}: 5\r\nTransfer-Encoding:"))),
        bad("identity beside", five(&format!("{cl}: 5\r\nTransfer-Encoding: identity"))),
        bad(
            "a coding with a spaced name beside",
            five(&format!("{cl}: 5\r\nTransfer-Encoding : chunked")),
        ),
        bad("a folded coding beside", five(&format!("{cl}: 5\r\nX: y\r\n {te}"))),
        bad(
            "a coding with a control byte beside",
            five(&format!("{cl}: 5\r\nTransfer-Encoding:\u{b}chunked")),
        ),
        fine(
            "names with underscores",
            five(&format!("{cl}: 5\r\nTransfer_Encoding: chunked\r\nContent_Length: 0")),
        ),
        fine("another kind of coding", five(&format!("{cl}: 5\r\nX-Transfer-Encoding: chunked"))),
        fine("TE is no coding", five(&format!("{cl}: 5\r\nTE: chunked"))),
        bad("connection names the length", five(&format!("{cl}: 5\r\nConnection: {cl}"))),
        bad(
            "connection names the coding",
            coded(&format!("{te}\r\nConnection: Transfer-Encoding")),
        ),
        bad("connection names the host", five(&format!("{cl}: 5\r\nConnection: host"))),
    ]
}

fn chunks() -> Vec<Row> {
    let data = |text: &str| chunked(&format!("{text}\r\n0\r\n\r\n{{H}}"));
    vec![
        fine("zeros before", data("0001\r\na")),
        fine("capitals", data("A\r\n0123456789")),
        fine("an extension", data("1;a=b\r\na")),
        fine("an extension in quotes", data("1;a=\"b;c\"\r\na")),
        fine("zeros at the end", chunked("1\r\na\r\n000\r\n\r\n{H}")),
        fine("an extension at the end", chunked("1\r\na\r\n0;x\r\n\r\n{H}")),
        bad("no size", data("\r\na")),
        bad("0x", data("0x1\r\na")),
        bad("a plus", data("+1\r\na")),
        bad("a minus", data("-1\r\na")),
        bad("an underscore", data("1_0\r\n0123456789abcdef")),
        bad("no digit", data("g\r\na")),
        bad("a space before", data(" 1\r\na")),
        fine("white space before an extension", data("1 \t;a=b\r\na")),
        fine("a size padded with a space", data("1 \r\na")),
        fine("a size padded with a tab", data("1\t\r\na")),
        bad("a comma", data("1,1\r\na")),
        bad("a NUL behind", data("1\0\r\na")),
        bad("a vertical tab behind", data("1\u{b}\r\na")),
        bad("over 64 bits by one", data("10000000000000001\r\na")),
        bad("over 32 bits by one", chunked("100000001\r\na\r\n0\r\n\r\n{H}")),
        bad("sixteen digits", data("ffffffffffffffff\r\na")),
        bad("a size that ends in LF", data("1\na")),
        bad("a size that ends in CR", data("1\ra")),
        bad("a size that ends in CR CR LF", data("1\r\r\na")),
        bad("an extension that ends in LF", data("1;x\na")),
        bad("an extension with LF", data("1;x\ny\r\na")),
        bad("an extension with a request", chunked("1;\n{H}\r\na\r\n0\r\n\r\n")),
        bad("data without an end", chunked("1\r\na0\r\n\r\n{H}")),
        bad("more data than said", chunked("1\r\nab\r\n0\r\n\r\n{H}")),
        bad("less data than said", chunked("8\r\na\r\n0\r\n\r\n{H}")),
        bad("data that ends in LF", chunked("1\r\na\n0\r\n\r\n{H}")),
        bad("data that ends in CR", chunked("1\r\na\r0\r\n\r\n{H}")),
        bad("data that ends in other bytes", chunked("1\r\naXX0\r\n\r\n{H}")),
        bad("the end in LF", chunked("1\r\na\r\n0\n\n{H}")),
        bad("the end in CR", chunked("1\r\na\r\n0\r\r{H}")),
        bad("no end, but a request", chunked("1\r\na\r\n{H}")),
    ]
}

fn trailers() -> Vec<Row> {
    let end = |lines: &str| chunked(&format!("1\r\na\r\n0\r\n{lines}\r\n{{H}}"));
    vec![
        fine("a trailer", end("X: y\r\n")),
        fine("a length for a trailer", end("Content-Length: 100\r\n")),
        fine("a coding for a trailer", end("Transfer-Encoding: chunked\r\n")),
        fine("a host for a trailer", end("Host: b\r\nAuthorization: Bearer x\r\n")),
        fine("an announced trailer", {
            post(
                "Trailer: Content-Length\r\nTransfer-Encoding: chunked",
                "0\r\nContent-Length: 9\r\n\r\n{H}",
            )
        }),
    ]
}

fn starts() -> Vec<Row> {
    let start = |line: &str| format!("{line}\r\nHost: a\r\nContent-Length: {{HL}}\r\n\r\n{{H}}");
    vec![
        fine("a body that is a request", start("POST {T} HTTP/1.1")),
        fine("an absolute target", start("POST http://a{T} HTTP/1.1")),
        fine("a method of our own", start("SMUGGLE {T} HTTP/1.1")),
        bad("an absolute target elsewhere", start("POST http://b{T} HTTP/1.1")),
        bad("an absolute target of a user", start("POST http://u@a{T} HTTP/1.1")),
        bad("another scheme", start("POST file://a{T} HTTP/1.1")),
        bad("no slash", start("POST x{T} HTTP/1.1")),
        bad("two spaces before the target", start("POST  {T} HTTP/1.1")),
        bad("two spaces behind the target", start("POST {T}  HTTP/1.1")),
        bad("a space at the end", start("POST {T} HTTP/1.1 ")),
        bad("a space before", start(" POST {T} HTTP/1.1")),
        bad("tabs", start("POST\t{T}\tHTTP/1.1")),
        bad("vertical tabs", start("POST\u{b}{T}\u{b}HTTP/1.1")),
        bad("a space in the target", start("POST /x {T} HTTP/1.1")),
        bad("two versions", start("POST {T} HTTP/1.1 HTTP/1.1")),
        bad("a CR in the target", start("POST /x\r{T} HTTP/1.1")),
        bad("an LF in the target", start("POST /x\n{T} HTTP/1.1")),
        bad("a NUL in the target", start("POST /x\0{T} HTTP/1.1")),
        bad("an escaped line end in the path", start("POST /x%0d%0aX:y{T} HTTP/1.1")),
        bad("a fragment", start("POST {T}#x HTTP/1.1")),
        bad("bytes beyond ASCII in the target", start("POST /\u{ff}{T} HTTP/1.1")),
        bad("a colon in the method", start("POST: {T} HTTP/1.1")),
        bad("a NUL in the method", start("PO\0ST {T} HTTP/1.1")),
        bad("a mark of byte order", start("\u{ef}\u{bb}\u{bf}POST {T} HTTP/1.1")),
        bad("HTTP/1.2", start("POST {T} HTTP/1.2")),
        bad("HTTP/1.10", start("POST {T} HTTP/1.10")),
        bad("HTTP/01.1", start("POST {T} HTTP/01.1")),
        bad("HTTP/1,1", start("POST {T} HTTP/1,1")),
        bad("HTTP/0.9 in words", start("POST {T} HTTP/0.9")),
        bad("HTTP/0.9", "GET {T}\r\n{H}"),
        bad("in small letters", start("POST {T} http/1.1")),
        bad("HTTPS/1.1", start("POST {T} HTTPS/1.1")),
        bad("a NUL behind the version", start("POST {T} HTTP/1.1\0")),
        bad("CONNECT", start("CONNECT a:80 HTTP/1.1")),
        bad("TRACE with a body", start("TRACE {T} HTTP/1.1")),
        bad("OPTIONS of all with a body", start("OPTIONS * HTTP/1.1")),
        bad("an asterisk for another method", start("POST * HTTP/1.1")),
    ]
}

fn hosts() -> Vec<Row> {
    let host =
        |lines: &str| format!("POST {{T}} HTTP/1.1\r\n{lines}Content-Length: 5\r\n\r\n01234");
    vec![
        bad("no host", host("")),
        bad("an empty host", host("Host:\r\n")),
        bad("two hosts", host("Host: a\r\nHost: b\r\n")),
        bad("the same host twice", host("Host: a\r\nhost: a\r\n")),
        bad("a list of hosts", host("Host: a, b\r\n")),
        bad("a path", host("Host: a/x\r\n")),
        bad("a user", host("Host: u@a\r\n")),
        bad("a space", host("Host: a b\r\n")),
        bad("a spaced name", host("Host : a\r\n")),
        bad("a folded host", host("Host: a\r\n b\r\n")),
        bad("a folded first line", host(" Host: a\r\n")),
        bad("a NUL", host("Host: a\0b\r\n")),
    ]
}

fn fields() -> Vec<Row> {
    let field = |line: &str| five(&format!("Content-Length: 5\r\n{line}"));
    vec![
        fine("a tab in a value", field("X: a\tb")),
        fine("bytes beyond ASCII in a value", field("X: caf\u{e9}")),
        fine("an empty value", field("X:")),
        bad("no colon", field("X")),
        bad("no name", field(": y")),
        bad("a space in a name", field("X Y: z")),
        bad("a NUL in a name", field("X\0Y: z")),
        bad("a NUL in a value", field("X: y\0z")),
        bad("brackets in a name", field("X(y): z")),
        bad("a semicolon in a name", field("X;y: z")),
        bad("a slash in a name", field("X/y: z")),
        bad("a quote in a name", field("\"X\": z")),
        bad("bytes beyond ASCII in a name", field("caf\u{e9}: z")),
        bad("a control byte in a value", field("X: \u{1}")),
        bad("DEL in a value", field("X: \u{7f}")),
        bad("an escape of a terminal", field("X: \u{1b}[2J")),
        bad("connection is no list", field("Connection: a b")),
        bad("connection names a credential", field("Connection: authorization")),
    ]
}

/// Lines that end otherwise.
fn line_ends() -> Vec<Row> {
    vec![
        fine("empty lines before", format!("\r\n\r\n{}", five("Content-Length: 5"))),
        bad("an LF before", format!("\n{}", five("Content-Length: 5"))),
        bad("a CR before", format!("\r{}", five("Content-Length: 5"))),
        bad("a NUL before", format!("\0{}", five("Content-Length: 5"))),
        bad("LF alone", "POST {T} HTTP/1.1\nHost: a\nContent-Length: 5\n\n01234"),
        bad("LF at the end", "POST {T} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\n01234"),
        bad("LF CR", "POST {T} HTTP/1.1\n\rHost: a\n\rContent-Length: 5\n\r\n\r01234"),
        bad("CR alone", "POST {T} HTTP/1.1\rHost: a\rContent-Length: 5\r\r01234"),
        bad("CR CR LF", "POST {T} HTTP/1.1\r\r\nHost: a\r\r\n\r\r\n"),
        bad("a CR at the end of a line", five("Content-Length: 5\r")),
        bad(
            "a head that ends twice",
            "POST {T} HTTP/1.1\r\nHost: a\r\n\rContent-Length: 5\r\n\r\n",
        ),
    ]
}

/// Requests behind or inside of requests.
fn hidden() -> Vec<Row> {
    let get =
        |lines: &str, rest: &str| format!("GET {{T}} HTTP/1.1\r\nHost: a\r\n{lines}\r\n{rest}");
    vec![
        fine("a request behind no length", post("X: y", "{H}")),
        fine("a request behind no body", post("Content-Length: 0", "{H}")),
        fine("a request behind a body", post("Content-Length: 5", "01234{H}")),
        fine("a request behind chunks", chunked("1\r\na\r\n0\r\n\r\n{H}")),
        fine("a request in a chunk", chunked("{HX}\r\n{H}\r\n0\r\n\r\n")),
        fine("ten behind each other", post("Content-Length: 0", &"{H}".repeat(10))),
        fine(
            "a deletion with a body",
            post("Content-Length: {HL}", "{H}").replacen("POST", "DELETE", 1),
        ),
        fine("behind the last request", post("Connection: close\r\nContent-Length: 0", "{H}")),
        fine("half a request behind", post("Content-Length: 0", "GET /hidden HTTP/1.1\r\nX")),
        fine("nonsense behind", post("Content-Length: 0", "nonsense\r\n\r\n")),
        fine("a GET with a body", get("Content-Length: {HL}\r\n", "{H}")),
        fine(
            "a GET with chunks",
            get("Transfer-Encoding: chunked\r\n", "{HX}\r\n{H}\r\n0\r\n\r\n"),
        ),
    ]
}

/// Other versions, upgrades, expectations.
fn protocols() -> Vec<Row> {
    let old = |lines: &str, rest: &str| format!("POST {{T}} HTTP/1.0\r\n{lines}\r\n{rest}");
    let upgrade = "Connection: Upgrade\r\nUpgrade: ";
    vec![
        fine("HTTP/1.0 with a length", old("Host: a\r\nContent-Length: 5\r\n", "01234")),
        bad(
            "HTTP/1.0 with a coding",
            old("Host: a\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n{H}"),
        ),
        bad(
            "HTTP/1.0 with both",
            old("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n{H}"),
        ),
        bad(
            "HTTP/1.0 kept alive with a coding",
            old(
                "Host: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n{H}",
            ),
        ),
        fine("an upgrade with a body", five(&format!("{upgrade}websocket\r\nContent-Length: 5"))),
        fine("an upgrade to h2c with a body", five(&format!("{upgrade}h2c\r\nContent-Length: 5"))),
        fine(
            "an upgrade to h2c with a request behind",
            post(&format!("{upgrade}h2c\r\nContent-Length: 0"), "{H}"),
        ),
        bad("a preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{H}"),
        bad("half a preface", "PRI * HTTP/2.0\r\n\r\n{H}"),
        bad("a handshake of TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}{H}"),
        fine(
            "an expectation, and the body at once",
            five("Expect: 100-continue\r\nContent-Length: 5"),
        ),
        fine(
            "an expectation without a body",
            post("Expect: 100-continue\r\nContent-Length: 0", "{H}"),
        ),
        bad(
            "a strange expectation with a request",
            post("Expect: x\r\nContent-Length: {HL}", "{H}"),
        ),
        bad(
            "a list of expectations",
            five("Expect: 100-continue, 100-continue\r\nContent-Length: 5"),
        ),
        bad(
            "expectations twice",
            five("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5"),
        ),
    ]
}
