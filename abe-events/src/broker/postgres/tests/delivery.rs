//! Tokens, attempts, and what stands in the tables meanwhile.

use super::super::config::Acks;
use super::super::settle::Statements;
use super::*;

#[tokio::test]
async fn an_attempt_is_counted_before_it_is_handed_out() {
    let Some(ground) = Ground::new("attempt") else { return };
    let broker = ground.open().await;
    let consumer = broker.subscribe(&spec("billing", 400)).await.unwrap();
    broker.publish(outgoing(vec![message(None)])).await.unwrap();
    let first = take(&*consumer, 1).await;
    assert_eq!(ground.sql("SELECT attempts FROM abe_events.delivery"), "1", "what died here has used one");
    assert_eq!(first[0].attempt, 1);
    // Nobody settles it, as if the process had died.
    let again = take(&*consumer, 1).await;
    assert_eq!((again[0].attempt, ground.sql("SELECT attempts FROM abe_events.delivery").as_str()), (2, "2"));
    assert!(consumer.settle(acks(again)).await.lost.is_empty());
    broker.close().await.unwrap();
    ground.assert_empty();
}

#[tokio::test]
async fn who_lost_the_lease_settles_nothing() {
    let Some(ground) = Ground::new("token") else { return };
    let (zombie, other) = (ground.open().await, ground.open().await);
    let of_zombie = zombie.subscribe(&spec("billing", 300)).await.unwrap();
    zombie.publish(outgoing(vec![message(None), message(None), message(None)])).await.unwrap();
    let late = take(&*of_zombie, 10).await;
    assert_eq!(late.len(), 3);
    let of_other = other.subscribe(&spec("billing", 60_000)).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(take(&*of_other, 10).await);
    }
    // Everything a zombie may say: none of it touches what the other holds.
    let tokens: Vec<_> = late.iter().map(|delivery| delivery.token).collect();
    assert_eq!(of_zombie.renew(&tokens).await.unwrap(), tokens, "all leases are lost");
    let failure = |attempt| Box::new(Failure::new(FailureKind::Error, attempt, "late"));
    let verdicts =
        [Verdict::Ack, Verdict::Retry { after: Duration::ZERO, failure: failure(1) }, Verdict::DeadLetter { failure: failure(1) }];
    let late = late.into_iter().zip(verdicts).map(|(delivery, verdict)| Settlement { delivery, verdict }).collect();
    let settled = of_zombie.settle(late).await;
    assert_eq!((settled.lost.len(), settled.failed.len()), (3, 0), "{settled:?}");
    assert_eq!(ground.sql("SELECT count(*) FROM abe_events.delivery WHERE token IS NOT NULL AND attempts = 2"), "3");
    assert_eq!(other.dead_letters().count().await.unwrap(), 0);
    let settled = of_other.settle(acks(held)).await;
    assert!(settled.lost.is_empty() && settled.failed.is_empty(), "{settled:?}");
    zombie.close().await.unwrap();
    other.close().await.unwrap();
    ground.assert_empty();
}

#[tokio::test]
async fn a_publish_that_fails_stores_nothing_and_harms_no_other() {
    let Some(ground) = Ground::new("atomic") else { return };
    let broker = ground.open().await;
    let consumer = broker.subscribe(&spec("billing", 60_000)).await.unwrap();
    ground.sql("ALTER TABLE abe_events.message ADD CHECK (version <> 13)");
    let bad = || Message::new(Topic::new("order.created").unwrap(), 13, Payload::from_bytes("{}"));
    let calls = (0..20).map(|i| {
        let messages = if i % 5 == 0 { vec![message(None), bad()] } else { vec![message(None), message(None)] };
        broker.publish(outgoing(messages))
    });
    for (i, outcome) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        match outcome {
            Ok(published) => assert!(i % 5 != 0 && published.deliveries == 2),
            Err(failure) => assert!(i % 5 == 0 && failure.stored == 0 && failure.error.kind() == ErrorKind::NotStored, "{failure}"),
        }
    }
    let mut taken = 0;
    while taken < 32 {
        let some = take(&*consumer, 100).await;
        taken += some.len();
        consumer.settle(acks(some)).await;
    }
    assert_eq!((taken, consumer.depth().pending()), (32, 0));
    broker.close().await.unwrap();
    ground.assert_empty();
}

#[tokio::test]
async fn a_row_nobody_can_read_holds_up_nobody() {
    let Some(ground) = Ground::new("unreadable") else { return };
    let broker = ground.open().await;
    let consumer = broker.subscribe(&spec("billing", 300)).await.unwrap();
    let sent = [message(None), message(None), message(None)];
    broker.publish(outgoing(sent.to_vec())).await.unwrap();
    ground.sql(&format!("UPDATE abe_events.message SET attributes = 'nonsense' WHERE id = '{}'", sent[1].id()));
    let taken = take(&*consumer, 10).await;
    assert_eq!(taken.iter().map(|delivery| delivery.message.id()).collect::<Vec<_>>(), [sent[0].id(), sent[2].id()]);
    consumer.settle(acks(taken)).await;
    // Mended, it comes.
    ground.sql("UPDATE abe_events.message SET attributes = NULL");
    let taken = take(&*consumer, 10).await;
    assert_eq!(taken[0].message.id(), sent[1].id());
    consumer.settle(acks(taken)).await;
    broker.close().await.unwrap();
    ground.assert_empty();
}

/// What removes the message fails: then its dead letter is not there either, and the delivery is still the caller's.
#[tokio::test]
async fn a_dead_letter_and_its_removal_are_one() {
    let Some(ground) = Ground::new("one") else { return };
    let broker = ground.open().await;
    let consumer = broker.subscribe(&spec("billing", 60_000)).await.unwrap();
    broker.publish(outgoing(vec![message(None)])).await.unwrap();
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; \
                  CREATE TRIGGER refuse BEFORE DELETE ON abe_events.message FOR EACH ROW EXECUTE FUNCTION refuse()";
    ground.sql(refuse);
    let delivery = take(&*consumer, 1).await.remove(0);
    let failure = Box::new(Failure::new(FailureKind::Permanent, 1, "no"));
    let settled = consumer.settle(vec![Settlement { delivery, verdict: Verdict::DeadLetter { failure } }]).await;
    assert_eq!((settled.failed.len(), broker.dead_letters().count().await.unwrap()), (1, 0), "{settled:?}");
    ground.sql("DROP TRIGGER refuse ON abe_events.message");
    let again = settled.failed.into_iter().map(|(settlement, _)| settlement).collect();
    let settled = consumer.settle(again).await;
    assert!(settled.failed.is_empty() && settled.lost.is_empty(), "{settled:?}");
    let letters = broker.dead_letters().list(&DeadLetterFilter::all()).await.unwrap();
    assert_eq!((letters.len(), letters[0].reason()), (1, "no"));
    broker.close().await.unwrap();
    ground.assert_empty();
}

/// What a claim changes is in no index: however often a message is handed out, no index entry is written for it.
#[tokio::test]
async fn claims_and_renewals_write_no_index() {
    // A server of its own: a transaction of another database, while it runs, keeps dead versions where they are.
    let Some(ground) = Ground::alone("hot") else { return };
    let broker = ground.open().await;
    let consumer = broker.subscribe(&spec("billing", 60_000)).await.unwrap();
    broker.publish(outgoing((0..500).map(|_| message(None)).collect())).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 500 {
        held.extend(take(&*consumer, 100).await);
    }
    let tokens: Vec<_> = held.iter().map(|delivery| delivery.token).collect();
    assert!(consumer.renew(&tokens).await.unwrap().is_empty());
    // Closing would give them back, which is an update more.
    assert!(consumer.settle(acks(held)).await.lost.is_empty());
    broker.close().await.unwrap();
    let counted = "SELECT pg_stat_get_xact_tuples_updated(0) IS NOT NULL, pg_stat_clear_snapshot() IS NULL; \
                   SELECT n_tup_upd >= 1000 FROM pg_stat_all_tables WHERE schemaname = 'abe_events' AND relname = 'delivery'";
    // The server's counters come a little later than its sessions end.
    for _ in 0..100 {
        if ground.sql(counted).ends_with('t') {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let share = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_all_tables WHERE schemaname = 'abe_events' AND relname = 'delivery'";
    let said = ground.sql(share);
    let (all, hot) = said.split_once('|').unwrap();
    let (all, hot): (u32, u32) = (all.parse().unwrap(), hot.parse().unwrap());
    assert!(all >= 1_000 && hot * 10 >= all * 9, "{hot} of {all} updates spared the indexes");
}

/// A plan is made while the tables are empty, or by numbers that the server took when they were: it must not read the queue
/// once for each row it claims or settles. Here it has counted nothing in a table of many pages.
#[tokio::test]
async fn statements_planned_for_empty_tables_look_each_row_up() {
    let Some(ground) = Ground::new("planned") else { return };
    let broker = ground.open().await;
    let consumer = broker.subscribe(&spec("billing", 60_000)).await.unwrap();
    broker.publish(outgoing((0..2_000).map(|_| message(None)).collect())).await.unwrap();
    let mut left = 2_000;
    while left > 0 {
        let deliveries = consumer.receive(0, 500, Vec::new()).await.unwrap();
        left -= deliveries.len();
        consumer.settle(acks(deliveries)).await;
    }
    ground.sql("VACUUM (ANALYZE, TRUNCATE false) abe_events.delivery");
    ground.sql("VACUUM (ANALYZE, TRUNCATE false) abe_events.message");
    let pages = "SELECT relpages > 10 AND reltuples = 0 FROM pg_class WHERE oid = 'abe_events.delivery'::regclass";
    assert_eq!(ground.sql(pages), "t");
    let settle = Statements::new(&broker.db, Acks::Durable);
    let list = |value: &str| format!("array_fill({value}, ARRAY[500])");
    let held = [list("1"), list("1::bigint"), list("1::bigint")].join(", ");
    let (texts, numbers, small) = (list("''::text"), list("1::bigint"), list("1"));
    let by_place = "Index Cond: ((subscription = u";
    let settings = db::PLANNING.map(|(name, value)| format!("SET {name} = {value};")).concat();
    for (statement, parameters, sound) in [
        (
            &broker.claims.claim,
            "1, 50, 1000000, 1000000, 1, 0".to_owned(),
            &["Index Cond: (seq = ", "(line = f.line) AND (place > f.place)"][..],
        ),
        (&settle.ack.found, held.clone(), &[by_place]),
        (&settle.back.found, format!("{held}, {numbers}, {small}, {texts}"), &[by_place]),
        (&settle.bury.found, format!("{held}, {texts}, {numbers}"), &[by_place]),
    ] {
        for mode in ["force_generic_plan", "force_custom_plan"] {
            let explain = format!("PREPARE it AS {statement}; EXPLAIN (COSTS OFF) EXECUTE it ({parameters})");
            let plan = ground.sql(&format!("{settings} SET plan_cache_mode = {mode}; {explain}"));
            for sound in sound.iter().chain(&["Tid Scan on delivery"]) {
                assert!(plan.contains(sound), "no {sound} in\n{plan}");
            }
            let lines: Vec<&str> = plan.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let of_many = [" on delivery", " on message", " on sharing"].iter().any(|table| line.contains(table));
                let looked_up =
                    lines.get(at + 1).is_some_and(|next| ["Index Cond", "TID Cond", "Recheck Cond"].iter().any(|cond| next.contains(cond)));
                assert!(!(of_many && line.contains(" Scan ")) || looked_up, "all of it is read: {line} in\n{plan}");
            }
        }
    }
    broker.close().await.unwrap();
}
