//! Publish cycles that can be seen before anything runs: handlers that return what leads back to themselves.

use super::{Finding, Planned};

/// Names every cycle once. What a handler publishes through its context is not known before it runs; the hop limit stops
/// those chains.
pub(super) fn find(planned: &[Planned], findings: &mut Vec<Finding>) {
    let next: Vec<Vec<usize>> = planned
        .iter()
        .map(|plan| {
            let published = (plan.handler.publishes)();
            let takes = |other: &Planned| published.iter().any(|event| other.topics.iter().any(|pattern| pattern.matches(event.topic)));
            (0..planned.len()).filter(|&at| takes(&planned[at])).collect()
        })
        .collect();
    for start in 0..planned.len() {
        // A cycle is named from its first member, through later ones only, so each is named once.
        if let Some(path) = path_back(start, &next) {
            let names: Vec<&str> = path.iter().map(|&at| planned[at].name.as_str()).collect();
            let text =
                format!("publish cycle: {} → {}; chains end in dead letters after `max_hops`", names.join(" → "), planned[start].name);
            let mut finding = Finding::warning(text);
            for at in path {
                finding = finding.at(planned[at].handler.spec.at);
            }
            findings.push(finding);
        }
    }
}

/// The shortest way from a handler back to itself through handlers that are not before it.
fn path_back(start: usize, next: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut cause: Vec<Option<usize>> = vec![None; next.len()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for &to in &next[at] {
            if to == start {
                let mut path = vec![at];
                while let Some(before) = cause[*path.last().unwrap_or(&start)].filter(|_| *path.last().unwrap_or(&start) != start) {
                    path.push(before);
                }
                path.reverse();
                return Some(path);
            }
            if to > start && cause[to].is_none() {
                cause[to] = Some(at);
                queue.push_back(to);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::path_back;

    #[test]
    fn cycles_of_one_two_and_three_are_found_from_their_first_member_only() {
        assert_eq!(path_back(0, &[vec![0]]), Some(vec![0]));
        let ring = [vec![1], vec![2], vec![0]];
        assert_eq!(path_back(0, &ring), Some(vec![0, 1, 2]));
        assert_eq!((path_back(1, &ring), path_back(2, &ring)), (None, None));
        assert_eq!(path_back(0, &[vec![1], vec![]]), None);
    }
}
