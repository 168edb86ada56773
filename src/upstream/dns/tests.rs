use std::sync::atomic::AtomicBool;

use super::*;

/// A resolver whose answers the test decides; it counts how often it is asked.
#[derive(Clone, Default)]
struct Scripted {
    asked: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    answer: Arc<Mutex<Vec<IpAddr>>>,
    takes: Duration,
}

impl Scripted {
    fn answering(addresses: &[&str]) -> Self {
        let script = Self::default();
        script.now(addresses);
        script
    }

    fn now(&self, addresses: &[&str]) {
        *self.answer.lock() = addresses.iter().map(|address| address.parse().unwrap()).collect();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn dns(&self) -> Dns {
        let script = self.clone();
        Dns::with(Box::new(move |_| {
            script.asked.fetch_add(1, Ordering::SeqCst);
            let script = script.clone();
            Box::pin(async move {
                tokio::time::sleep(script.takes).await;
                if script.down.load(Ordering::SeqCst) {
                    return Err(io::Error::new(io::ErrorKind::HostUnreachable, "resolver down"));
                }
                Ok(script.answer.lock().clone())
            })
        }))
    }
}

async fn first(dns: &Dns, host: &str) -> String {
    dns.lookup(host).await.unwrap()[0].to_string()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_for_30_s_and_then_followed() {
    let script = Scripted::answering(&["10.0.0.1"]);
    let dns = script.dns();
    for _ in 0..5 {
        assert_eq!(first(&dns, "a.test").await, "10.0.0.1");
    }
    assert_eq!(script.asked(), 1);
    script.now(&["10.0.0.2"]);
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(first(&dns, "a.test").await, "10.0.0.1");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(first(&dns, "a.test").await, "10.0.0.2");
    assert_eq!(script.asked(), 2);
    assert_eq!(first(&dns, "b.test").await, "10.0.0.2");
    assert_eq!(script.asked(), 3, "another name is another question");
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_serves_while_the_resolver_is_down() {
    let script = Scripted::answering(&["10.0.0.1"]);
    let dns = script.dns();
    first(&dns, "a.test").await;
    script.down.store(true, Ordering::SeqCst);
    tokio::time::advance(Duration::from_hours(1)).await;
    for _ in 0..5 {
        assert_eq!(first(&dns, "a.test").await, "10.0.0.1");
    }
    assert_eq!(script.asked(), 2, "asked again only after 5 s");
    script.down.store(false, Ordering::SeqCst);
    script.now(&["10.0.0.9"]);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(first(&dns, "a.test").await, "10.0.0.9");
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_serves_while_the_resolver_hangs() {
    let mut script = Scripted::answering(&["10.0.0.1"]);
    let dns = script.dns();
    first(&dns, "a.test").await;
    script.takes = Duration::from_mins(1);
    let slow = script.dns();
    *slow.names.lock() = std::mem::take(&mut *dns.names.lock());
    tokio::time::advance(Duration::from_secs(31)).await;
    let start = Instant::now();
    let (one, two) = tokio::join!(first(&slow, "a.test"), async {
        let address = first(&slow, "a.test").await;
        assert!(start.elapsed() < Duration::from_millis(10), "the second waits for nothing");
        address
    });
    assert_eq!((one.as_str(), two.as_str()), ("10.0.0.1", "10.0.0.1"));
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_ask_once_and_share_a_failure() {
    let mut script = Scripted::answering(&["10.0.0.1"]);
    script.takes = Duration::from_secs(2);
    let dns = Arc::new(script.dns());
    let ask = |dns: &Arc<Dns>| {
        let dns = Arc::clone(dns);
        (0..50).map(move |_| {
            let dns = Arc::clone(&dns);
            tokio::spawn(async move { dns.lookup("a.test").await.map_err(|e| e.to_string()) })
        })
    };
    for task in ask(&dns).collect::<Vec<_>>() {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(script.asked(), 1);

    script.down.store(true, Ordering::SeqCst);
    let dns = Arc::new(script.dns());
    for task in ask(&dns).collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap().unwrap_err(), "resolver down");
    }
    assert_eq!(script.asked(), 2);
    tokio::time::advance(Duration::from_secs(1)).await;
    script.down.store(false, Ordering::SeqCst);
    assert!(dns.lookup("a.test").await.is_ok(), "a failure is not kept for long");
}

#[tokio::test(start_paused = true)]
async fn no_address_is_a_failure() {
    let error = Scripted::default().dns().lookup("a.test").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn literals_and_localhost_ask_nobody() {
    let script = Scripted::answering(&["10.0.0.1"]);
    let dns = script.dns();
    assert_eq!(first(&dns, "192.0.2.7").await, "192.0.2.7");
    assert_eq!(first(&dns, "2001:db8::7").await, "2001:db8::7");
    let local = dns.lookup("LocalHost").await.unwrap();
    assert!(local.iter().all(IpAddr::is_loopback) && local.len() == 2);
    assert_eq!(script.asked(), 0);
}

#[tokio::test]
async fn addresses_rotate_and_the_families_take_turns() {
    let script =
        Scripted::answering(&["10.0.0.2", "::2", "10.0.0.1", "::1", "10.0.0.1", "10.0.0.3"]);
    let dns = script.dns();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let addresses = dns.lookup("a.test").await.unwrap();
        seen.push(addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(
        seen,
        [
            "::1 10.0.0.1 ::2 10.0.0.2 10.0.0.3",
            "::2 10.0.0.2 ::1 10.0.0.3 10.0.0.1",
            "::1 10.0.0.3 ::2 10.0.0.1 10.0.0.2",
        ]
    );
}
