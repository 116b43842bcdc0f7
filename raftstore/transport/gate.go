package transport

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// Handshakes in progress that callers at the addresses of members began, and those of all other callers. The others
	// cannot take the capacity of the members.
	maxFromMembers = 128
	maxFromOthers  = 64
	// maxFromOther bounds the handshakes in progress of one host that is no member's: see countedAs.
	maxFromOther = 8
	// helloStay is how long a connection from a member's address stays at least, unless its handshake ends. A member on
	// a busy machine needs some milliseconds from its dial to its hello.
	helloStay = 20 * time.Millisecond
)

// errTooMany: a connection was closed for a newer one.
var errTooMany = errors.New("too many handshakes in progress")

// gate bounds the handshakes in progress whose callers have not proven the cluster token. A new connection is always
// admitted. If there is no room, it replaces one whose caller has sent no valid hello, or if there is none such, any:
// the oldest one of the host that has most such. A caller with the token sends its hello at once, so it is through
// before its turn comes, and a connection whose caller has proven the token is not in the gate any more.
type gate struct {
	mu      sync.Mutex // guards all below
	members []attempt  // from the addresses of members, the oldest first
	others  []attempt  // from all other addresses, the oldest first
	cut     uint64     // connections that were closed for newer ones
}

// attempt is a handshake in progress.
type attempt struct {
	conn    *conn
	host    netip.Prefix // see countedAs
	entered time.Time
	greeted bool // it has sent a hello for this member of this group
}

// untilRoom returns how long the next connection from a member's address must wait, so that each one before it stays
// for helloStay.
func (g *gate) untilRoom(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.members) < maxFromMembers {
		return 0
	}
	return g.members[next(g.members, func(attempt) bool { return true })].entered.Add(helloStay).Sub(now)
}

// enter admits a connection from host. It returns the connection that must be closed for it, or nil.
func (g *gate) enter(c *conn, addr netip.Addr, isMember bool, now time.Time) (replaced *conn) {
	host := countedAs(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	list, limit, anyHost := &g.others, maxFromOthers, func(attempt) bool { return true }
	if isMember {
		list, limit = &g.members, maxFromMembers
	}
	sameHost := func(a attempt) bool { return a.host == host }
	switch {
	case !isMember && count(*list, sameHost) >= maxFromOther:
		replaced = remove(list, sameHost)
	case len(*list) >= limit:
		replaced = remove(list, anyHost)
	}
	if replaced != nil {
		g.cut++
	}
	*list = append(*list, attempt{conn: c, host: host, entered: now})
	return replaced
}

// next returns the index of the chosen attempt that is replaced next: of those that sent no hello if there are any, the
// oldest one of the host that has most of them.
func next(list []attempt, chosen func(attempt) bool) int {
	candidate := func(a attempt) bool { return chosen(a) && !a.greeted }
	if !slices.ContainsFunc(list, candidate) {
		candidate = chosen
	}
	first, hosts := map[netip.Prefix]int{}, map[netip.Prefix]int{}
	next := -1
	for i, a := range list {
		if !candidate(a) {
			continue
		}
		if hosts[a.host]++; hosts[a.host] == 1 {
			first[a.host] = i
		}
	}
	for host, i := range first {
		if next < 0 || hosts[host] > hosts[list[next].host] || hosts[host] == hosts[list[next].host] && i < next {
			next = i
		}
	}
	return next
}

// remove takes the attempt that next chooses out of a list.
func remove(list *[]attempt, chosen func(attempt) bool) *conn {
	i := next(*list, chosen)
	c := (*list)[i].conn
	*list = slices.Delete(*list, i, i+1)
	return c
}

func count(list []attempt, chosen func(attempt) bool) (n int) {
	for _, a := range list {
		if chosen(a) {
			n++
		}
	}
	return n
}

// greeted records that a valid hello came on a connection.
func (g *gate) greeted(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, list := range [][]attempt{g.members, g.others} {
		for i := range list {
			if list[i].conn == c {
				list[i].greeted = true
			}
		}
	}
}

// leave ends the part of a handshake that needs capacity: it ended, or its caller has proven the cluster token.
func (g *gate) leave(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	isConn := func(a attempt) bool { return a.conn == c }
	g.members = slices.DeleteFunc(g.members, isConn)
	g.others = slices.DeleteFunc(g.others, isConn)
}

// Cut returns how many connections of callers that had not proven the cluster token were closed for newer ones.
func (s *Stream) Cut() uint64 {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.cut
}

// proofOf is the key of the address from which, or at which, a member proved the cluster token.
type proofOf struct {
	member string
	called bool // this master called it
}

// learnHost records the address at the other end of a connection as its member's. The member has proven the token. The
// addresses of members that have been removed meanwhile are dropped.
func (s *Stream) learnHost(c *conn, member string) {
	host := hostOf(c.RemoteAddr().String())
	removed := s.isRemoved()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.proven, func(p proofOf, _ netip.Addr) bool { return p.member != member && removed(p.member) })
	s.proven[proofOf{member, c.dialled != ""}] = host
}

// isRemoved returns a function that reports whether raft's configuration does not have a member. While there is no
// configuration, it has all.
func (s *Stream) isRemoved() func(member string) bool {
	if len(s.cfg.Addresses()) == 0 {
		return func(string) bool { return false }
	}
	return func(member string) bool { return s.cfg.AddressOf(member) == "" }
}

// isMembers reports whether an address is a member's: in raft's configuration, or set, or proven. A host name in the
// configuration counts once its member was reached: this master does not wait for a name server here. A master that
// the configuration does not have, because it is new or was removed, has no part in the capacity of the members.
func (s *Stream) isMembers(host netip.Addr) bool {
	if !host.IsValid() {
		return false
	}
	for _, hostPort := range s.cfg.Addresses() {
		if hostOf(hostPort) == host {
			return true
		}
	}
	removed := s.isRemoved()
	s.mu.Lock()
	defer s.mu.Unlock()
	for member, hostPort := range s.addresses {
		if hostOf(hostPort) == host && !removed(member) {
			return true
		}
	}
	for p, h := range s.proven {
		if h == host && !removed(p.member) {
			return true
		}
	}
	return false
}

// countedAs returns what an address counts as: an IPv4 address itself, and an IPv6 address as its network of 64 bits,
// of which a caller may have all addresses.
func countedAs(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // the zero Prefix for the zero Addr
	return prefix
}

// hostOf returns the IP address of host:port, or the zero Addr if the host is a name.
func hostOf(hostPort string) netip.Addr {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}
