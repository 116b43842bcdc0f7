package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// DefaultGrace is how long a node accepts certificates of other nodes that are out of their time. A week is enough to
// notice a forgotten renewal or a wrong clock, and to repair it.
const DefaultGrace = 7 * 24 * time.Hour

const (
	// maxGraces bounds the certificates in a grace. Only an authority can make more of them.
	maxGraces = 4096
	// maxShown bounds the certificates that the other side shows, if they are to have a grace.
	maxShown = 8
	// alarmPause is the time between two log lines about one node.
	alarmPause = time.Hour
	// forgetAfter is how long a node is reported after the last handshake with it.
	forgetAfter = time.Hour
)

// Grace is a node that is accepted although a certificate is out of its time: its own, or that of its authority.
type Grace struct {
	Identity            Identity
	Serial              string        // of the certificate that the node shows
	NotBefore, NotAfter time.Time     // of the certificate that is out of its time
	Left                time.Duration // how much longer it is accepted; 0 if it is not any more
}

// graces counts the grace of each certificate that is out of its time: the running time of this process, by the
// monotonic clock, since it first saw the certificate so. The count ends when the certificate is seen within its time.
type graces struct {
	limit time.Duration // 0 for no grace
	log   hclog.Logger

	mu    sync.Mutex // guards all below
	since map[[sha256.Size]byte]time.Time
	peers map[Identity]*gracedPeer
}

// gracedPeer is the last connection of a node in its grace.
type gracedPeer struct {
	certificate  *x509.Certificate // the one that is out of its time
	serial       string            // of the one that the node shows
	seen, logged time.Time
	until        time.Time
}

func newGraces(limit time.Duration, log hclog.Logger) *graces {
	return &graces{
		limit: limit, log: log, since: map[[sha256.Size]byte]time.Time{}, peers: map[Identity]*gracedPeer{},
	}
}

// verifyPeer verifies the other side of a connection of nodes: its certificate, at any time if there is a grace, for a
// host if that is not "", and its identity. Then it decides about the grace.
func (s *Store) verifyPeer(
	b *bundle, state tls.ConnectionState, host string, usage x509.ExtKeyUsage, roles []string,
) error {
	now := time.Now()
	opts := x509.VerifyOptions{DNSName: host, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: now}
	chains, late := b.chains(state.PeerCertificates, opts)
	if late != nil && (s.graces.limit == 0 || len(chains) == 0) {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: late}
	}
	id, err := b.peer(state, roles)
	if err != nil {
		return err
	}
	if late == nil {
		s.graces.end(id, chains)
		return nil
	}
	if !s.graces.accept(id, chains, now) {
		late = fmt.Errorf("%w; the grace of %v for certificates out of their time is over (--tls-grace)", late,
			s.graces.limit)
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: late}
	}
	return nil
}

// chains verifies a certificate, the first one shown, as opts say. If that fails and some certificate is out of its
// time, it returns the chains that hold at other times, with the error of opts.CurrentTime.
func (b *bundle) chains(
	shown []*x509.Certificate, opts x509.VerifyOptions,
) (list [][]*x509.Certificate, err error) {
	opts.Roots, opts.Intermediates = b.pool, x509.NewCertPool()
	for _, c := range shown[1:] {
		opts.Intermediates.AddCert(c)
	}
	now := opts.CurrentTime
	if list, err = shown[0].Verify(opts); err == nil {
		return list, nil
	}
	all := slices.Concat(shown, b.authorities)
	if len(shown) > maxShown || !slices.ContainsFunc(all, func(c *x509.Certificate) bool { return !inTime(c, now) }) {
		return nil, err
	}
	// If all certificates of a chain are valid at some time, they are when the last of them begins.
	for _, c := range all {
		if opts.CurrentTime = c.NotBefore; inTime(shown[0], opts.CurrentTime) {
			if at, other := shown[0].Verify(opts); other == nil {
				list = append(list, at...)
			}
		}
	}
	return list, err
}

func inTime(c *x509.Certificate, at time.Time) bool {
	return !at.Before(c.NotBefore) && !at.After(c.NotAfter)
}

// end ends the grace of a node, and of certificates that were verified at the present time.
func (g *graces) end(id Identity, chains [][]*x509.Certificate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.peers, id)
	if len(g.since) == 0 {
		return
	}
	for _, chain := range chains {
		for _, c := range chain {
			delete(g.since, sha256.Sum256(c.Raw))
		}
	}
}

// accept reports whether there is a chain whose certificates are all within their time or their grace, and raises the
// alarm.
func (g *graces) accept(id Identity, chains [][]*x509.Certificate, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	var bad *x509.Certificate
	left := time.Duration(0)
	for _, chain := range chains {
		c, l := g.leftOf(chain, now)
		if bad == nil || l > left {
			bad, left = c, l
		}
	}
	if bad == nil { // no certificate is out of its time: there is another chain than at the first try
		return true
	}
	p := g.peers[id]
	if p == nil {
		p = &gracedPeer{}
		g.forget(now)
		if len(g.peers) < maxGraces {
			g.peers[id] = p
		}
	}
	p.certificate, p.serial, p.seen, p.until = bad, SerialOf(chains[0][0]), now, now.Add(left)
	if p.logged.IsZero() || now.Sub(p.logged) >= alarmPause {
		p.logged = now
		args := []any{"identity", id, "certificate", bad.Subject.CommonName,
			"not_before", stamp(bad.NotBefore), "not_after", stamp(bad.NotAfter), "now", stamp(now)}
		if left <= 0 {
			g.log.Error("a node is refused, its certificate is out of its time and the grace is over: renew it, "+
				"or set the clock", args...)
		} else {
			g.log.Error("the certificate of a node is out of its time, and is accepted for a while: renew it, "+
				"or set the clock", append(args, "accepted_for", left.Round(time.Second))...)
		}
	}
	return left > 0
}

// leftOf returns how much of its grace a chain has left, at most 0 for none, and the certificate that decides it. The
// caller holds mu.
func (g *graces) leftOf(chain []*x509.Certificate, now time.Time) (bad *x509.Certificate, left time.Duration) {
	left = g.limit
	for _, c := range chain {
		if inTime(c, now) {
			continue
		}
		digest := sha256.Sum256(c.Raw)
		first, known := g.since[digest]
		l := g.limit - now.Sub(first)
		switch {
		case known:
		case len(g.since) >= maxGraces:
			l = 0
		default:
			g.since[digest], l = now, g.limit
		}
		if bad == nil || l < left {
			bad, left = c, l
		}
	}
	return bad, left
}

// forget drops the nodes that were not seen for long, and those whose certificate is within its time again: this clock
// was set. The caller holds mu.
func (g *graces) forget(now time.Time) {
	for id, p := range g.peers {
		if inTime(p.certificate, now) {
			delete(g.since, sha256.Sum256(p.certificate.Raw))
		} else if now.Sub(p.seen) < forgetAfter {
			continue
		}
		delete(g.peers, id)
	}
}

// SerialOf is the serial number of a certificate, in hexadecimal.
// SerialOf returns the serial number of a certificate as nodes report it.
func SerialOf(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

// list returns the nodes in their grace, and those whose grace is over.
func (g *graces) list() (list []Grace) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(now)
	for id, p := range g.peers {
		list = append(list, Grace{
			Identity: id, Serial: p.serial, NotBefore: p.certificate.NotBefore, NotAfter: p.certificate.NotAfter,
			Left: max(0, p.until.Sub(now)),
		})
	}
	slices.SortFunc(list, func(a, b Grace) int { return cmp.Compare(a.Identity.String(), b.Identity.String()) })
	return list
}
