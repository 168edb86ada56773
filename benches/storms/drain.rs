//! SIGTERM while streams run: each must come to its end, byte for byte as from the backend itself,
//! and the process to a good end after the last.
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tidegate::simulate;
use tokio::time::{Instant, sleep, timeout};

use crate::Lab;
use crate::ask::{ask, ask_once, chat, open};
use crate::report::Line;

const HOW: &str = "ttft=200ms; gap=100ms; tokens=80";
/// All streams have begun by then, or never will.
const BEGUN: Duration = Duration::from_mins(1);

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Line>> {
    let listen = ([127, 0, 0, 1], 0).into();
    let backend = simulate::start(simulate::Options { listen, ..simulate::Options::default() })?;
    let policy = format!(
        "server: {{ drain: {{ delay: 0s, timeout: 2m }} }}
upstreams: {{ one: {{ dialect: openai, url: \"http://{}\" }} }}
routes: [{{ path: /, to: one }}]
",
        backend.addr
    );
    let child = lab.child("drain", &policy)?;
    let count = lab.size(500, 50);
    let request: Rc<[u8]> = chat("", true, 1, HOW).into();
    let begun = Rc::new(Cell::new(0));
    let streams: Vec<_> = (0..count)
        .map(|_| {
            let (request, begun, to) = (Rc::clone(&request), Rc::clone(&begun), child.at);
            tokio::task::spawn_local(async move {
                let mut connection = open(to).await?;
                ask(&mut connection, &request, || begun.set(begun.get() + 1)).await
            })
        })
        .collect();
    let all_begun = async {
        while begun.get() < count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    _ = timeout(BEGUN, all_begun).await;
    let running = begun.get();
    child.signal(Signal::TERM)?;
    let told = Instant::now();
    // asked while the others are: their time is the same
    let direct = ask_once(backend.addr, &request).await?;
    let (mut same, mut wrong) = (0, None);
    for stream in streams {
        match stream.await? {
            Ok(answer) if answer == direct && answer.whole => same += 1,
            Ok(answer) => wrong = Some(format!("{} bytes, status {}", answer.bytes, answer.status)),
            Err(error) => wrong = Some(format!("{error:#}")),
        }
    }
    let after = told.elapsed().as_secs_f64();
    let end = child.finish(Duration::from_secs(30));
    let good_end = end.is_ok_and(|log| log.len() > count);
    let why = wrong.map_or_else(String::new, |why| format!(" ({why})"));
    let figure = format!(
        "{same} of {count} whole, each {} bytes; the last {after:.1} s after the signal{why}; end: {}",
        direct.bytes,
        if good_end { "good" } else { "bad" },
    );
    let passed = same == count && running == count && good_end;
    Ok(vec![Line::that(passed, "streams that run when SIGTERM comes", figure, "all whole, exit 0")])
}
