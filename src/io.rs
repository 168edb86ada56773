//! One byte stream, whatever carries it: TCP, TLS over TCP, or a Unix socket.
//!
//! A closed enum instead of a boxed trait object: the compiler sees through it on every read.
//! Shared by the listener (server side TLS) and the upstream side (client side TLS).
pub mod base32;
pub mod base64;
pub mod pem;
pub mod reach;

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected stream.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    ServerTls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    ClientTls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Up to here, copying several slices into one costs less than the kernel's walk over them.
const JOINED: usize = 4 * 1024;

thread_local! {
    static JOIN: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(JOINED));
}

impl Stream {
    /// What lies in the socket is not yet what was sent.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::ServerTls(_) | Self::ClientTls(_))
    }

    /// Whether bytes or the end lie in the socket. It is the kernel that is asked: the runtime learns
    /// of them in its next turn, which may be one too late.
    pub fn has_news(&self) -> bool {
        let socket = match self {
            Self::Tcp(io) => SockRef::from(io),
            Self::Unix(io) => SockRef::from(io),
            Self::ServerTls(io) => SockRef::from(io.get_ref().0),
            Self::ClientTls(io) => SockRef::from(io.get_ref().0),
        };
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// As `poll_write_vectored`; a few small slices go out as one plain write.
    pub fn poll_write_joined(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total > JOINED {
            return Pin::new(self).poll_write_vectored(cx, bufs);
        }
        if let [one] = bufs {
            return Pin::new(self).poll_write(cx, one);
        }
        JOIN.with_borrow_mut(|joined| {
            joined.clear();
            for buf in bufs {
                joined.extend_from_slice(buf);
            }
            Pin::new(self).poll_write(cx, joined)
        })
    }
}

macro_rules! each {
    ($self:expr, $io:ident => $body:expr) => {
        match $self {
            Stream::Tcp($io) => $body,
            Stream::Unix($io) => $body,
            Stream::ServerTls($io) => $body,
            Stream::ClientTls($io) => $body,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}
