package batch

import "time"

// gathering decides how long a batch that is not full waits for the callers that have just been answered. In a closed
// loop, each caller calls again soon after its answer. A batch that leaves before most of them are back carries only
// those that were waiting already, so that the callers split into two groups, and each batch carries half of them. The
// wait ends as soon as as many callers as were answered have come. A single caller never waits: it is the one that was
// answered.
//
// The wait is at most half of the usual duration of a batch, and at most a limit. Where callers do not come back, the
// next batches do not wait: 1, 2, 4 and at last 64 of them for each try.
//
// It has no clock and is not safe for concurrent use.
type gathering struct {
	limit time.Duration // of a wait; 0: batches do not wait

	owed, asked   int           // callers that have not come back, of those that were answered
	until         time.Time     // when the wait for them ends
	usual         time.Duration // moving average of the duration of a batch
	misses, skips int           // tries in a row in which callers did not come back; batches until the next try
}

const (
	usualShare = 8  // the share of the newest batch in the usual duration: an eighth
	missShare  = 4  // a try misses if more than a quarter of the callers are not back
	maxSkips   = 64 // batches between two tries
)

// answered notes that a batch of n callers has ended.
func (g *gathering) answered(n int, took time.Duration, now time.Time) {
	if g.limit == 0 {
		return
	}
	g.usual += (took - g.usual) / usualShare
	if g.owed == 0 {
		g.asked = 0
		if g.skips > 0 {
			g.skips--
			return
		}
	}
	g.owed, g.asked = g.owed+n, g.asked+n
	g.until = now.Add(min(g.limit, g.usual/2))
}

// came notes that n callers have called.
func (g *gathering) came(n int) {
	if g.owed > 0 && n >= g.owed {
		g.misses = 0
	}
	g.owed = max(0, g.owed-n)
}

// wait returns how long the next batch waits, 0 if it can leave.
func (g *gathering) wait(now time.Time) time.Duration {
	if g.owed == 0 {
		return 0
	}
	if left := g.until.Sub(now); left > 0 {
		return left
	}
	if g.owed*missShare > g.asked {
		g.misses++
		g.skips = min(1<<(min(g.misses, 16)-1), maxSkips)
	} else {
		g.misses = 0
	}
	g.owed = 0
	return 0
}
