use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::agents::{Ladder, Shared};
use crate::config::{self, Access, Address, Certificate, ListenTls};
use crate::identity::Rung;
use crate::io::pem::provider;
use crate::listen::socket::{Inherited, bind};
use crate::listen::tls::ServerTls;

/// A certificate authority, and a server that asks clients for its certificates.
struct House {
    authority: CertifiedIssuer<'static, KeyPair>,
    server: ServerTls,
    _files: TempDir,
}

impl House {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = tempfile::tempdir().unwrap();
        let at = |name: &str| files.path().join(name);
        let own = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let cert = cert.signed_by(&own, &authority).unwrap();
        fs::write(at("ca.pem"), authority.pem()).unwrap();
        fs::write(at("cert.pem"), cert.pem()).unwrap();
        fs::write(at("key.pem"), own.serialize_pem()).unwrap();
        let settings = ListenTls {
            cert: at("cert.pem"),
            key: at("key.pem"),
            client_ca: Some(at("ca.pem")),
            client_required: false,
        };
        Self { authority, server: ServerTls::new(&settings).unwrap(), _files: files }
    }

    /// A client with a certificate for these names, or with none.
    fn client(&self, names: Option<Vec<SanType>>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match names {
            None => config.with_no_client_auth(),
            Some(names) => {
                let mut params = CertificateParams::new(Vec::new()).unwrap();
                params.subject_alt_names = names;
                let key = KeyPair::generate().unwrap();
                let cert = params.signed_by(&key, &self.authority).unwrap();
                let chain = vec![CertificateDer::from(cert.der().to_vec())];
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    /// What is seen of one connection, and whether it resumed an earlier one.
    async fn visit(&self, client: &TlsConnector) -> (Seen, bool) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let calling = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = client.connect(name, tcp).await.unwrap();
            // the session's ticket comes behind the handshake
            tls.read_u8().await.unwrap()
        };
        let answering = async {
            let (tcp, peer) = listener.accept().await.unwrap();
            let mut stream = self.server.accept(tcp).await.unwrap();
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
            let Stream::ServerTls(tls) = &stream else { panic!("not TLS") };
            let resumed = tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            (of(&stream, Peer::Tcp(peer)), resumed)
        };
        tokio::join!(calling, answering).1
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// The ladder of a policy that knows certificates with these names.
fn ladder(san: &str) -> Ladder {
    let certificate = Certificate { san: san.into(), agent: None, team: Some("lab".into()) };
    let policy = config::Agents {
        access: Access::Known,
        certificates: vec![certificate],
        ..config::Agents::default()
    };
    Ladder::new(&policy, &Arc::new(Shared::default()))
}

#[tokio::test]
async fn a_certificate_names_its_agent() {
    let house = House::new();
    let names = vec![
        SanType::DnsName("Research.agents.test".try_into().unwrap()),
        uri("spiffe://cluster.local/ns/prod/sa/research"),
    ];
    let client = house.client(Some(names));
    for again in [false, true] {
        let (seen, resumed) = house.visit(&client).await;
        assert_eq!(resumed, again, "the second one resumes, and keeps its certificate");
        let sans: Vec<_> = seen.sans.iter().map(|san| &*san.name).collect();
        assert_eq!(sans, ["research.agents.test", "spiffe://cluster.local/ns/prod/sa/research"]);
        assert_eq!(seen.origin, Origin::Tcp(Ipv4Addr::LOCALHOST.into()));
        let headers = http::HeaderMap::new();
        for (glob, agent) in [
            ("spiffe://cluster.local/ns/*/sa/*", Some("research")),
            ("*.agents.test", Some("research.agents.test")),
            ("spiffe://other/*", None),
        ] {
            let found = ladder(glob).identify(&seen, &headers, None, || 0);
            let identity = found.ok().map(|found| found.identity);
            assert_eq!(identity.as_ref().map(|identity| &*identity.agent), agent, "{glob}");
            let facts = identity.map(|identity| (identity.rung, identity.team));
            assert_eq!(facts, agent.map(|_| (Rung::Mtls, Some("lab".into()))));
        }
    }
}

#[tokio::test]
async fn without_a_certificate_nobody_is_named() {
    let house = House::new();
    let (seen, _) = house.visit(&house.client(None)).await;
    assert!(seen.sans.is_empty());
    let refused = ladder("*").identify(&seen, &http::HeaderMap::new(), None, || 0);
    assert_eq!(refused.err(), Some(crate::agents::Unknown::NoKey));
}

#[tokio::test]
async fn a_unix_peer_is_known_by_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let bound = bind(&Address::Unix(path.clone()), &mut Inherited::default()).unwrap();
    let listener = bound[0].listener().unwrap();
    let _client = UnixStream::connect(&path).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let seen = of(&stream, peer);
    let me = fs::metadata("/proc/self").unwrap();
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let Origin::Unix { uid, gid, pid, process } = &seen.origin else { panic!("not Unix") };
    assert_eq!((*uid, *gid), (me.uid(), me.gid()));
    assert_eq!(*pid, Some(std::process::id().cast_signed()));
    assert_eq!(process.as_deref(), Some(own.trim()));
    assert_eq!(*seen.address, format!("uid:{uid}"));

    let peer = |uid: u32, agent: Option<&str>| config::Peer {
        uid: Some(uid),
        gid: None,
        process: Some(own.trim().into()),
        agent: agent.map(Into::into),
        team: None,
    };
    let identified = |peer| {
        let policy = config::Agents { access: Access::Known, ..config::Agents::default() };
        let policy = config::Agents { peers: vec![peer], ..policy };
        let ladder = Ladder::new(&policy, &Arc::new(Shared::default()));
        let found = ladder.identify(&seen, &http::HeaderMap::new(), None, || 0).ok()?;
        Some((found.identity.agent.to_string(), found.identity.rung))
    };
    assert_eq!(identified(peer(*uid, Some("builder"))), Some(("builder".into(), Rung::Peer)));
    assert_eq!(identified(peer(*uid, None)), Some((own.trim().to_owned(), Rung::Peer)));
    assert_eq!(identified(peer(*uid + 1, Some("builder"))), None);
}

#[test]
fn a_process_is_asked_for_its_name() {
    let me = std::process::id().cast_signed();
    let uid = fs::metadata("/proc/self").unwrap().uid();
    let name = process(me, uid).unwrap().unwrap();
    assert!(!name.is_empty() && name.len() < COMM, "{name}");
    assert_eq!(process(me, uid + 1).unwrap(), None, "an id of another user");
    assert!(process(i32::MAX, uid).is_err());

    // a program may be called anything
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("a b\u{e9}\n");
    std::os::unix::fs::symlink("/bin/sleep", &odd).unwrap();
    let mut child = Command::new(&odd).arg0("sleep").arg("60").spawn().unwrap();
    let asked = std::time::Instant::now();
    let mut name = None;
    // it gets its name a moment after it has been started
    while name.as_deref() != Some("a b__") && asked.elapsed().as_secs() < 10 {
        name = process(child.id().cast_signed(), uid).unwrap();
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(name.as_deref(), Some("a b__"));
}
