package httpapi

import (
	"container/list"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// maxAddresses bounds the addresses that a [RateLimit] remembers. One that is forgotten begins with all of its burst.
const maxAddresses = 16_384

// RateLimit bounds the requests of one kind that an address may send: a token bucket for each address. The nil
// RateLimit has no limit.
type RateLimit struct {
	what  string  // the requests
	rate  float64 // of each address, per second
	burst float64
	log   hclog.Logger

	mu      sync.Mutex // guards all below
	buckets map[netip.Prefix]*list.Element
	recent  list.List // of *bucket, the one that was used last at the front
	refused uint64
	warned  time.Time
}

// bucket is what an address has left.
type bucket struct {
	host netip.Prefix
	left float64
	at   time.Time
}

// NewRateLimit makes a limit of so many requests per second and address, and so many at once. It returns nil if
// perSecond is 0. what names the requests in the log and in refusals.
func NewRateLimit(what string, perSecond, burst int, log hclog.Logger) *RateLimit {
	if perSecond == 0 {
		return nil
	}
	return &RateLimit{
		what: what, rate: float64(perSecond), burst: float64(burst), log: log.Named("http"),
		buckets: map[netip.Prefix]*list.Element{},
	}
}

// Take counts a request. The error wraps [wire.ErrTooManyRequests] if its address has sent too many.
func (l *RateLimit) Take(r *http.Request) error {
	if l == nil {
		return nil
	}
	addr, _ := netip.ParseAddrPort(r.RemoteAddr) // without an address it shares the bucket of the zero address
	host, now := counted(addr.Addr()), time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucketOf(host, now)
	b.left = min(l.burst, b.left+now.Sub(b.at).Seconds()*l.rate)
	b.at = now
	if b.left >= 1 {
		b.left--
		return nil
	}
	l.refused++
	if l.warned.IsZero() || now.Sub(l.warned) >= warningInterval {
		l.warned = now
		l.log.Warn("an address sends too many "+l.what+": some are refused", "from", host.Addr().String(),
			"per_second", l.rate)
	}
	return fmt.Errorf("%w: %g %s a second are accepted, after %g at once", wire.ErrTooManyRequests, l.rate, l.what,
		l.burst)
}

// bucketOf returns the bucket of an address. The caller holds mu.
func (l *RateLimit) bucketOf(host netip.Prefix, now time.Time) *bucket {
	e := l.buckets[host]
	if e != nil {
		l.recent.MoveToFront(e)
		return e.Value.(*bucket)
	}
	if l.recent.Len() >= maxAddresses {
		delete(l.buckets, l.recent.Remove(l.recent.Back()).(*bucket).host)
	}
	b := &bucket{host: host, left: l.burst, at: now}
	l.buckets[host] = l.recent.PushFront(b)
	return b
}

// Refused returns how many requests were refused.
func (l *RateLimit) Refused() uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}
