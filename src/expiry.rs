//! How long a session lives.

use std::time::{Duration, SystemTime};

use crate::{
    error::{Error, ErrorKind},
    timestamp::Timestamp,
};

/// The rule by which one session expires, instead of the layer's own.
///
/// Set with [`Session::set_expiry`](crate::Session::set_expiry); it lasts for the life of the
/// session. Whatever the rule, the session ends at its absolute deadline at the latest: raise
/// [`with_absolute_timeout`](crate::SessionLayer::with_absolute_timeout) for sessions that are to
/// be remembered longer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_keep::{Error, Expiry, Session};
///
/// fn remember_me(session: &Session, ticked: bool) -> Result<(), Error> {
///     session.set_expiry(match ticked {
///         true => Expiry::Idle(Duration::from_secs(30 * 24 * 60 * 60)),
///         false => Expiry::BrowserClose,
///     })
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// So long after it was last used.
    Idle(Duration),
    /// At this time, used or not.
    At(SystemTime),
    /// When the browser is closed: the cookie has no `Max-Age`. A browser that is never closed, or
    /// restores its tabs, keeps such a cookie, so the server still ends the session by the layer's
    /// idle timeout.
    BrowserClose,
}

/// How the layer lets sessions expire. The plain numbers behind `with_idle_timeout` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpiryPolicy {
    pub(crate) idle: Duration,
    pub(crate) absolute: Duration,
    /// `None`: a tenth of the idle time that applies to the session.
    pub(crate) touch_after: Option<Duration>,
    /// Whether sessions without a rule of their own end with the browser.
    pub(crate) browser_close: bool,
}

impl ExpiryPolicy {
    /// Django's `SESSION_COOKIE_AGE`.
    pub(crate) const IDLE_DEFAULT: Duration = Duration::from_secs(14 * 24 * 60 * 60);

    /// NIST SP 800-63B-4, section 2.1.3: at AAL1 a reauthentication after at most 30 days.
    pub(crate) const ABSOLUTE_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// With a tenth, a session is at most 10 % shorter than it would be if every request wrote, and
    /// of the requests of an active session nearly none do.
    pub(crate) const TOUCH_FRACTION: u32 = 10;

    pub(crate) fn absolute_deadline(&self, began: Timestamp) -> Timestamp {
        began.saturating_add(self.absolute)
    }

    /// When a session that is used now is to die.
    pub(crate) fn deadline(
        &self,
        rule: Option<Expiry>,
        now: Timestamp,
        absolute: Timestamp,
    ) -> Timestamp {
        let by_rule = match rule {
            Some(Expiry::At(end)) => end.into(),
            Some(Expiry::Idle(idle)) => now.saturating_add(idle),
            Some(Expiry::BrowserClose) | None => now.saturating_add(self.idle),
        };
        by_rule.min(absolute)
    }

    /// The later deadline to write if the session is used now, or `None` while the written one is
    /// near enough.
    pub(crate) fn postponed(
        &self,
        rule: Option<Expiry>,
        now: Timestamp,
        expires_at: Timestamp,
        absolute: Timestamp,
    ) -> Option<Timestamp> {
        let step = self.touch_after(self.idle_of(rule)?);
        let deadline = self.deadline(rule, now, absolute);
        is_later(deadline, expires_at, step).then_some(deadline)
    }

    /// When a session is to die that is used now, where no cookie can tell of it: so much earlier
    /// that the next request finds it due to be postponed, and renews the cookie too. Otherwise one
    /// that is used between requests would never be due, and the cookie would run out. Just before its
    /// absolute end there is nothing to renew.
    pub(crate) fn silent_deadline(
        &self,
        rule: Option<Expiry>,
        now: Timestamp,
        absolute: Timestamp,
    ) -> Timestamp {
        let deadline = self.deadline(rule, now, absolute);
        let touch_after = self.idle_of(rule).map(|idle| self.touch_after(idle));
        let earlier = deadline.saturating_sub(touch_after.unwrap_or_default());
        if earlier > now { earlier } else { deadline }
    }

    /// [`postponed`](Self::postponed) where no cookie can tell of it. Half of what there is to gain
    /// is enough, so that a session in use does not die however seldom it is to be written.
    pub(crate) fn postponed_silently(
        &self,
        rule: Option<Expiry>,
        now: Timestamp,
        expires_at: Timestamp,
        absolute: Timestamp,
    ) -> Option<Timestamp> {
        let idle = self.idle_of(rule)?;
        let touch_after = self.touch_after(idle);
        let step = touch_after.min(idle.saturating_sub(touch_after) / 2);
        let deadline = self.silent_deadline(rule, now, absolute);
        is_later(deadline, expires_at, step).then_some(deadline)
    }

    /// How long a session lives without being used; `None` if its end is fixed.
    const fn idle_of(&self, rule: Option<Expiry>) -> Option<Duration> {
        match rule {
            Some(Expiry::At(_)) => None,
            Some(Expiry::Idle(idle)) => Some(idle),
            Some(Expiry::BrowserClose) | None => Some(self.idle),
        }
    }

    /// How much later the deadline of a session in use has to come before it is written again, in
    /// whole milliseconds as deadlines are.
    fn touch_after(&self, idle: Duration) -> Duration {
        // A rule shorter than the layer's is counted by its own tenth: what is seldom enough for
        // long sessions would let a short one die in use.
        let tenth = idle / Self::TOUCH_FRACTION;
        let touch_after = match self.touch_after {
            Some(after) if idle < self.idle => after.min(tenth),
            Some(after) => after,
            None => tenth,
        };
        Duration::from_millis(u64::try_from(touch_after.as_millis()).unwrap_or(u64::MAX))
    }

    /// The cookie's `Max-Age`: what is left, or `None` for a cookie that ends with the browser.
    pub(crate) fn cookie_age(
        &self,
        rule: Option<Expiry>,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Option<Duration> {
        let ends_with_browser = match rule {
            Some(Expiry::BrowserClose) => true,
            Some(Expiry::Idle(_) | Expiry::At(_)) => false,
            None => self.browser_close,
        };
        (!ends_with_browser).then(|| expires_at.duration_since(now))
    }
}

impl Default for ExpiryPolicy {
    fn default() -> Self {
        Self {
            idle: Self::IDLE_DEFAULT,
            absolute: Self::ABSOLUTE_DEFAULT,
            touch_after: None,
            browser_close: false,
        }
    }
}

impl Expiry {
    /// The rule to the millisecond, as it is stored. Refuses what would end the session at once:
    /// that is what `flush` is for.
    pub(crate) fn parse(self, now: Timestamp) -> Result<Self, Error> {
        let (lives, rule) = match self {
            Self::Idle(idle) => {
                let millis = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
                (millis > 0, Self::Idle(Duration::from_millis(millis)))
            }
            Self::At(end) => {
                let end = Timestamp::from(end);
                (end > now, Self::At(end.into()))
            }
            Self::BrowserClose => (true, self),
        };
        lives.then_some(rule).ok_or(Error::new(
            ErrorKind::InvalidArgument,
            "an expiry lies in the future; to end a session, flush it",
        ))
    }
}

fn is_later(deadline: Timestamp, than: Timestamp, by: Duration) -> bool {
    deadline >= than && deadline.duration_since(than) >= by
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const IDLE: Duration = Duration::from_secs(1000);
    const POLICY: ExpiryPolicy = ExpiryPolicy {
        idle: IDLE,
        absolute: Duration::from_secs(3000),
        touch_after: None,
        browser_close: false,
    };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    #[test]
    fn the_earlier_of_the_idle_and_the_absolute_deadline_counts() {
        assert_eq!(POLICY.deadline(None, at(0), at(3000)), at(1000));
        assert_eq!(POLICY.deadline(None, at(2500), at(3000)), at(3000));
        let end = Expiry::At(UNIX_EPOCH + Duration::from_secs(9000));
        assert_eq!(POLICY.deadline(Some(end), at(0), at(3000)), at(3000));
        let long = Expiry::Idle(Duration::MAX);
        assert_eq!(POLICY.deadline(Some(long), at(0), at(3000)), at(3000));
    }

    #[test]
    fn the_deadline_is_postponed_once_a_tenth_of_the_idle_time_has_passed() {
        let postponed = |now| POLICY.postponed(None, at(now), at(1000), at(3000));
        assert_eq!(postponed(99), None);
        assert_eq!(postponed(100), Some(at(1100)));
        assert_eq!(postponed(999), Some(at(1999)));
    }

    #[test]
    fn a_deadline_at_its_absolute_end_is_not_written_again() {
        assert_eq!(POLICY.postponed(None, at(2900), at(3000), at(3000)), None);
    }

    #[test]
    fn what_no_cookie_tells_of_is_due_at_the_next_request() {
        let end = Some(Expiry::At(UNIX_EPOCH + Duration::from_secs(2000)));
        let short = Some(Expiry::Idle(Duration::from_secs(100)));
        for (rule, silent) in [(None, at(1400)), (short, at(590))] {
            assert_eq!(POLICY.silent_deadline(rule, at(500), at(3000)), silent);
            assert!(POLICY.postponed(rule, at(500), silent, at(3000)).is_some());
        }
        assert_eq!(POLICY.silent_deadline(end, at(500), at(3000)), at(2000));
        assert_eq!(POLICY.silent_deadline(None, at(2950), at(3000)), at(3000));
        let near_the_end = POLICY.silent_deadline(None, at(2500), at(3000));
        let postponed = POLICY.postponed(None, at(2500), near_the_end, at(3000));
        assert_eq!(postponed, Some(at(3000)));
    }

    #[test]
    fn what_no_cookie_tells_of_is_due_to_the_millisecond() {
        let crooked = ExpiryPolicy {
            idle: Duration::from_micros(15_005_500),
            ..POLICY
        };
        for absolute in [at(8), at(3000)] {
            let silent = crooked.silent_deadline(None, at(0), absolute);
            let postponed = crooked.postponed(None, at(0), silent, absolute);
            assert_eq!(postponed, Some(crooked.deadline(None, at(0), absolute)));
        }
    }

    #[test]
    fn a_session_in_silent_use_outlives_its_idle_time_however_seldom_it_is_to_be_written() {
        for touch_after in [0, 1, 100, 500, 900, 999] {
            let policy = ExpiryPolicy {
                touch_after: Some(Duration::from_secs(touch_after)),
                ..POLICY
            };
            let left = IDLE - Duration::from_secs(touch_after);
            let mut expires_at = at(1000);
            let mut now = at(0);
            while now < at(5000) {
                now = now.saturating_add(left / 3);
                assert!(now < expires_at, "in use, after {touch_after}");
                let postponed = policy.postponed_silently(None, now, expires_at, at(9000));
                expires_at = postponed.unwrap_or(expires_at);
            }
        }
    }

    #[test]
    fn a_rule_shorter_than_the_layers_does_not_wait_for_the_layers_touch() {
        let seldom = ExpiryPolicy {
            touch_after: Some(Duration::from_secs(900)),
            ..POLICY
        };
        let short = Some(Expiry::Idle(Duration::from_secs(100)));
        assert_eq!(seldom.postponed(short, at(9), at(100), at(3000)), None);
        let postponed = seldom.postponed(short, at(10), at(100), at(3000));
        assert_eq!(postponed, Some(at(110)));
    }

    #[test]
    fn a_fixed_end_is_never_postponed() {
        let end = Some(Expiry::At(UNIX_EPOCH + Duration::from_secs(2000)));
        let always = ExpiryPolicy {
            touch_after: Some(Duration::ZERO),
            ..POLICY
        };
        assert_eq!(always.postponed(end, at(500), at(2000), at(3000)), None);
        assert_eq!(
            always.postponed(None, at(0), at(1000), at(3000)),
            Some(at(1000)),
            "zero touches whenever a session is loaded"
        );
    }

    #[test]
    fn a_shorter_idle_time_of_a_new_configuration_does_not_move_a_deadline_back() {
        assert_eq!(POLICY.postponed(None, at(10), at(2000), at(3000)), None);
    }

    #[test]
    fn the_cookie_ends_with_the_browser_by_rule_or_by_policy() {
        let closing = ExpiryPolicy {
            browser_close: true,
            ..POLICY
        };
        let idle = Some(Expiry::Idle(IDLE));
        let close = Some(Expiry::BrowserClose);
        let age = |policy: ExpiryPolicy, rule| policy.cookie_age(rule, at(0), at(1000));
        // Django's truth table of SESSION_EXPIRE_AT_BROWSER_CLOSE and set_expiry.
        assert_eq!(age(POLICY, None), Some(IDLE));
        assert_eq!(age(POLICY, idle), Some(IDLE));
        assert_eq!(age(POLICY, close), None);
        assert_eq!(age(closing, None), None);
        assert_eq!(age(closing, idle), Some(IDLE));
        assert_eq!(age(closing, close), None);
    }

    #[test]
    fn zero_and_the_past_are_refused() {
        for dead in [
            Expiry::Idle(Duration::ZERO),
            Expiry::Idle(Duration::from_micros(999)),
            Expiry::At(UNIX_EPOCH + Duration::from_secs(5)),
        ] {
            assert!(dead.parse(at(5)).is_err(), "{dead:?}");
        }
        assert!(Expiry::BrowserClose.parse(at(5)).is_ok());
    }
}
