//! What things cost, counted rather than timed: plans, steps and commits.

use super::*;

fn plan(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let count = statement.parameter_count();
    for at in 1..=count {
        statement.raw_bind_parameter(at, 1).unwrap();
    }
    let mut rows = statement.raw_query();
    let mut plan = String::new();
    while let Some(row) = rows.next().unwrap() {
        plan.push_str(&row.get::<_, String>(3).unwrap());
        plan.push('\n');
    }
    plan
}

#[tokio::test]
async fn whatever_is_looked_for_is_found_by_index() {
    let folder = Folder::new("plans");
    let broker = folder.open();
    let connection = folder.look();
    let line = "SELECT 1 FROM abe_delivery WHERE subscription = ?1 AND key = ?2 LIMIT 1";
    let next = "SELECT seq FROM abe_delivery WHERE subscription = ?1 AND key = ?2 AND due IS NULL ORDER BY seq LIMIT 1";
    for sql in [DUE, BACKLOG, EXPIRED, NEXT_DUE, NEXT_UNTIL, line, next] {
        let plan = plan(&connection, sql);
        assert!(plan.contains("SEARCH") && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
    assert!(plan(&connection, DUE).contains("abe_delivery_due"), "{}", plan(&connection, DUE));
    broker.close().await.unwrap();
}

/// Steps of the virtual machine are counted, not time: a claim in a long backlog takes no more of them.
#[tokio::test]
async fn a_claim_costs_the_same_in_a_long_backlog() {
    let mut steps = Vec::new();
    for backlog in [100, 20_000] {
        let folder = Folder::new(&format!("flat-{backlog}"));
        let broker = folder.open();
        broker.subscribe(&spec("billing", 30_000)).await.unwrap();
        for _ in 0..backlog / 100 {
            publish(&broker, &vec![message(None); 100]).await;
        }
        broker.close().await.unwrap();
        let connection = folder.look();
        let mut statement = connection.prepare(BACKLOG).unwrap();
        let rows = statement.query_map([1, 0, 50], |row| row.get::<_, i64>(0)).unwrap().count();
        assert_eq!(rows, 50);
        steps.push(statement.get_status(rusqlite::StatementStatus::VmStep));
    }
    assert_eq!(steps[0], steps[1], "steps of a claim in a backlog of 100 and of 20,000");
}

#[tokio::test]
async fn what_is_published_at_once_shares_commits() {
    let folder = Folder::new("group");
    let broker = Arc::new(folder.open());
    broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let before = broker.commits();
    let publishing = (0..1_000).map(|_| broker.publish(outgoing(vec![message(None)], Duration::ZERO)));
    for published in futures_util::future::join_all(publishing).await {
        assert_eq!(published.unwrap().deliveries, 1);
    }
    let commits = broker.commits() - before;
    assert!(commits <= 100, "{commits} commits for 1,000 publishes at once");
    let one_by_one = broker.commits();
    for _ in 0..5 {
        publish(&broker, &[message(None)]).await;
    }
    assert_eq!(broker.commits() - one_by_one, 5, "each awaited publish was committed before it was answered");
    broker.close().await.unwrap();
}
