//! What the subject says under which a delivery is settled.

/// The numbers of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    /// How often the message has been handed out.
    pub(super) deliveries: u64,
    /// Its number in the stream.
    pub(super) sequence: u64,
    /// When it was stored, in milliseconds.
    pub(super) time_ms: u64,
    /// How many more there were for the consumer.
    pub(super) pending: u64,
}

impl Ack {
    /// `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer's>.<time>.<pending>`, or with domain and account before the
    /// stream, and maybe more behind.
    pub(super) fn parse(subject: &str) -> Option<Self> {
        let tokens: Vec<&str> = subject.strip_prefix("$JS.ACK.")?.split('.').collect();
        let numbers = match tokens.len() {
            7 => &tokens[2..],
            9.. => &tokens[4..],
            _ => return None,
        };
        let number = |at: usize| numbers.get(at)?.parse::<u64>().ok();
        Some(Self { deliveries: number(0)?, sequence: number(1)?, time_ms: number(3)? / 1_000_000, pending: number(4)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_no_other() {
        let ack = Some(Ack { deliveries: 2, sequence: 17, time_ms: 1_795_354_800_123, pending: 5 });
        assert_eq!(Ack::parse("$JS.ACK.shop.g~n.2.17.9.1795354800123456789.5"), ack);
        assert_eq!(Ack::parse("$JS.ACK.hub.hash.shop.g~n.2.17.9.1795354800123456789.5"), ack);
        assert_eq!(Ack::parse("$JS.ACK.hub.hash.shop.g~n.2.17.9.1795354800123456789.5.random"), ack);
        for other in ["", "$JS.ACK", "$JS.ACK.a.b", "$JS.ACK.s.c.x.1.1.1.1", "_INBOX.x"] {
            assert_eq!(Ack::parse(other), None, "{other}");
        }
    }
}
