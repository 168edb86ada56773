//! From ends of tasks to messages, and a drain in between.
use super::*;
use crate::tasks::{Caller, Form, NewTask, Request, Settings, State, TaskId, Tasks};

const NOW: u64 = 1_700_000_000_000;

fn book(world: &World) -> Arc<Tasks> {
    Tasks::open(Arc::clone(&world.store), Settings::default(), Arc::default(), NOW).unwrap()
}

/// A task of which these are to be told, and its end.
async fn cancelled(tasks: &Tasks, webhooks: &[&str]) -> TaskId {
    let new = NewTask {
        owner: [1; 16],
        request: Request::default(),
        caller: Caller::default(),
        route: "r".to_owned(),
        model: None,
        idempotency: None,
        webhooks: webhooks.iter().map(|&name| name.to_owned()).collect(),
        form: Form::Plain,
        body: bytes::Bytes::new(),
        credential: None,
        max_age: None,
    };
    let id = tasks.submit(new, NOW).await.unwrap().view.record.id;
    let view = tasks.cancel(None, id).await.unwrap();
    assert_eq!(view.record.state, State::Cancelled);
    id
}

fn tell(world: &World, tasks: &Arc<Tasks>) -> JoinHandle<()> {
    let (webhooks, tasks) = (Arc::clone(&world.webhooks), Arc::clone(tasks));
    tokio::task::spawn_local(async move { webhooks.tell(&tasks).await })
}

async fn none_left(tasks: &Tasks) -> bool {
    timeout(Duration::from_millis(1), tasks.untold(1)).await.is_err()
}

async fn until_told(tasks: &Tasks) {
    while !none_left(tasks).await {
        sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn an_end_is_a_message_for_each_of_its_targets() {
    block_on(async {
        let (ops, other) = (Receiver::new(&[OK]).await, Receiver::new(&[OK]).await);
        let deaf = Webhook { events: vec![TaskEnd::Failed], ..hook("deaf", ops.port, &[OLD]) };
        let hooks = [hook("ops", ops.port, &[OLD]), hook("other", other.port, &[NEW]), deaf];
        let world = World::new(&hooks, terms(&[0]));
        let tasks = book(&world);
        // one target has left the policy, one does not want such ends
        let id = cancelled(&tasks, &["ops", "gone", "deaf", "other"]).await;
        tell(&world, &tasks);
        until_told(&tasks).await;
        assert_eq!(world.rows().len(), 2);
        world.run();
        world.over().await;
        assert_eq!((ops.count(), other.count()), (1, 1));
        let asked = ops.asked(0);
        assert!(asked.signed_by(OLD) && other.asked(0).signed_by(NEW));
        assert_ne!(asked.header("webhook-id"), other.asked(0).header("webhook-id"));
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let own = format!("/-/tasks/{id}");
        let links = json!({
            "self": own,
            "result": format!("{own}/result"),
            "events": format!("{own}/events"),
            "cancel": format!("{own}/cancel"),
        });
        assert_eq!(body["type"], "task.cancelled");
        assert_eq!(
            body["data"],
            json!({ "id": id.to_string(), "state": "cancelled", "links": links })
        );
    });
}

#[test]
fn while_too_many_messages_wait_ends_wait_too() {
    block_on(async {
        let world = World::new(&[hook("ops", 1, &[OLD])], terms(&[0]));
        let tasks = book(&world);
        let message = |at: usize| Delivery {
            id: format!("msg_{at}").into(),
            to: "ops".into(),
            body: "{}".into(),
            attempts: 0,
            due: i64::MAX,
        };
        let full = (0..).map(message).take_while(|message| {
            world.webhooks.shared.book.lock().announce(message.clone()) == Offer::Taken
        });
        assert!(full.count() > 1000);
        cancelled(&tasks, &["ops"]).await;
        tell(&world, &tasks);
        sleep(Duration::from_millis(100)).await;
        assert!(!none_left(&tasks).await && world.rows().is_empty());
        world.webhooks.shared.book.lock().kept("msg_7", false);
        until_told(&tasks).await;
        assert_eq!(world.rows().len(), 1);
    });
}

#[test]
fn a_target_that_takes_nothing_keeps_nobody_from_hearing() {
    block_on(async {
        let well = Receiver::new(&[OK]).await;
        let world =
            World::new(&[hook("dead", 1, &[OLD]), hook("well", well.port, &[OLD])], terms(&[0]));
        let tasks = book(&world);
        let message = |at: usize| Delivery {
            id: format!("msg_{at}").into(),
            to: "dead".into(),
            body: "{}".into(),
            attempts: 1,
            due: millis() + 3_600_000,
        };
        let shared = Arc::clone(&world.webhooks.shared);
        // one was sent, and did not arrive
        shared.book.lock().load(message(0));
        shared.book.lock().put_back(&message(0), true, Some(false));
        let offer = |at| shared.book.lock().announce(message(at));
        let taken = (1..100_000).take_while(|&at| offer(at) == Offer::Taken).count();
        assert!((1000..99_000).contains(&taken));
        cancelled(&tasks, &["dead", "well"]).await;
        tell(&world, &tasks);
        world.run();
        until(|| well.count() == 1).await;
        until_told(&tasks).await;
        assert_eq!(world.webhooks.figures().given_up, 1);
    });
}

#[test]
fn a_store_that_takes_nothing_ends_the_telling_and_nothing_counts_as_told() {
    block_on(async {
        let world = World::new(&[hook("ops", 1, &[OLD])], terms(&[0]));
        let tasks = book(&world);
        cancelled(&tasks, &["ops"]).await;
        world.store.close(HANGS);
        tell(&world, &tasks).await.unwrap();
        assert!(!none_left(&tasks).await);
    });
}

#[test]
fn a_drain_waits_for_what_is_on_its_way_and_begins_nothing() {
    block_on(async {
        let receiver = Receiver::new(&[""]).await;
        let patience = Terms { timeout: Duration::from_millis(300), ..terms(&[0, 0, 0]) };
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], patience);
        let (trigger, drain) = drain::pair();
        let webhooks = Arc::clone(&world.webhooks);
        let running = tokio::task::spawn_local(async move { webhooks.run(&drain).await });
        world.tell("ops", "task_1", "task.failed").await;
        until(|| receiver.count() == 1).await;
        trigger.advance(drain::Stage::Leaving);
        trigger.advance(drain::Stage::Draining);
        assert_eq!(trigger.held(), 1);
        world.tell("ops", "task_2", "task.failed").await;
        trigger.idle().await;
        running.await.unwrap();
        // the first has its next attempt due, and was the only one
        assert_eq!((receiver.count(), world.webhooks.figures().failed), (1, 1));
        let mut attempts: Vec<u32> = world.rows().iter().map(|row| row.attempts).collect();
        attempts.sort_unstable();
        assert_eq!(attempts, [0, 1]);
    });
}
