//! What a new connection says of its peer: asked once, before its first request.
//!
//! A TLS peer's names come from the certificate that the handshake has verified. A Unix peer's
//! process is asked by its id; an id is used again, so it counts only while it is still the same
//! user's. Nothing here fails: what cannot be learnt is left out.
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use webpki::EndEntityCert;

use super::socket::Peer;
use crate::agents::Seen;
use crate::agents::seen::Origin;
use crate::identity::Name;
use crate::io::Stream;

/// The kernel keeps 15 bytes of a process's name, and writes a line.
const COMM: usize = 16;

/// The facts of one connection, after its handshake.
pub fn of(stream: &Stream, peer: Peer) -> Seen {
    let origin = match peer {
        Peer::Tcp(address) => Origin::Tcp(address.ip()),
        Peer::Unix { uid, gid, pid } => {
            // a look into procfs, which is memory: no disk is waited for
            let process = pid.and_then(|pid| process(pid, uid).ok().flatten());
            Origin::Unix { uid, gid, pid, process }
        }
    };
    let leaf = match stream {
        Stream::ServerTls(tls) => tls.get_ref().1.peer_certificates().and_then(<[_]>::first),
        _ => None,
    };
    let cert = leaf.and_then(|leaf| EndEntityCert::try_from(leaf).ok());
    let names = cert.iter().flat_map(|cert| cert.valid_dns_names().chain(cert.valid_uri_names()));
    Seen { tls: matches!(stream, Stream::ServerTls(_)), ..Seen::new(origin, names) }
}

/// How the process calls itself, as visible characters and spaces.
fn process(pid: i32, uid: u32) -> io::Result<Option<Name>> {
    let mut file = File::open(format!("/proc/{pid}/comm"))?;
    let mut text = [0; COMM];
    let length = file.read(&mut text)?;
    // the open file is of one process; is it the peer's user who owns it?
    if file.metadata()?.uid() != uid {
        return Ok(None);
    }
    let shown = |byte: &u8| {
        let keep = byte.is_ascii_graphic() || *byte == b' ';
        if keep { char::from(*byte) } else { '_' }
    };
    let name: String = text[..length].trim_ascii().iter().map(shown).collect();
    Ok((!name.is_empty()).then(|| name.into()))
}

#[cfg(test)]
mod tests;
