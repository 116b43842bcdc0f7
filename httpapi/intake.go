package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/wire"
)

// Intake bounds the bytes of bodies that a server holds at a time, in total and for each owner. A body counts from its
// first byte until its request has been answered.
type Intake struct {
	total, share int64
	small        *Intake // see SmallApart

	mu      sync.Mutex // guards the fields below
	held    int64
	byOwner map[string]int64
}

// NewIntake makes an intake of so many bytes in total, of which one owner gets at most a share.
func NewIntake(total, share int64) *Intake {
	return &Intake{total: total, share: share, byOwner: map[string]int64{}}
}

// The bytes of small bodies of nodes that a server holds at a time, in total and of one address.
const (
	smallBytes = 32 << 20
	smallShare = smallBytes / 4
)

// NewNodeIntake makes the intake for bodies of nodes, of which one has up to most bytes. Each address may have one such
// body, and four addresses at a time, so a faulty node leaves room for the others. Small bodies, as most calls between
// nodes have, count apart.
func NewNodeIntake(most int64) *Intake {
	share := most + MaxSmallBody // room for the byte that shows the end of a body
	return NewIntake(4*share, share).SmallApart(smallBytes, smallShare)
}

// SmallApart makes bodies of at most [MaxSmallBody] bytes count apart from the others, with so many bytes in total and
// for one owner. So large bodies cannot take the room of small ones.
func (in *Intake) SmallApart(total, share int64) *Intake {
	in.small = NewIntake(total, share)
	return in
}

// Held is how many bytes are held now.
func (in *Intake) Held() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.small != nil {
		return in.held + in.small.Held()
	}
	return in.held
}

// take adds bytes of an owner. The error wraps wire.ErrBacklog if there is no room for them.
func (in *Intake) take(owner string, n int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.held+n > in.total:
		return fmt.Errorf("%w: requests that are under way hold %d bytes, this node takes %d at a time; nothing was "+
			"changed, try again", wire.ErrBacklog, in.held, in.total)
	case in.byOwner[owner]+n > in.share:
		return fmt.Errorf("%w: requests of the same project or address that are under way hold %d bytes, %d are taken "+
			"at a time; nothing was changed, try again", wire.ErrBacklog, in.byOwner[owner], in.share)
	}
	in.held += n
	in.byOwner[owner] += n
	return nil
}

// free gives bytes back.
func (in *Intake) free(owner string, n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.held -= n
	if in.byOwner[owner] -= n; in.byOwner[owner] <= 0 {
		delete(in.byOwner, owner)
	}
}

// body is what the body of one request holds. Only the goroutine of the request uses in and owner until its first byte
// is counted.
type body struct {
	in    *Intake
	owner string

	mu   sync.Mutex // guards held
	held int64
}

// bodyKey is the key of a request's context for its body.
type bodyKey struct{}

// Track counts the body of a request. Its owner is the address that it comes from. The request that it returns is the
// one to read. end must be called when the request has been answered.
func (in *Intake) Track(r *http.Request) (tracked *http.Request, end func()) {
	b := &body{in: in, owner: AddressOf(r)}
	return r.WithContext(context.WithValue(r.Context(), bodyKey{}, b)), b.free
}

// TrackAll is middleware that counts the bodies of all requests until they have been answered.
func (in *Intake) TrackAll(c *gin.Context) {
	tracked, end := in.Track(c.Request)
	defer end()
	c.Request = tracked
	c.Next()
}

// AddressOf returns the address that a request counts for: of IPv6 its network of 64 bits.
func AddressOf(r *http.Request) string {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr) // without an address it counts for the zero address
	return counted(addr.Addr()).String()
}

// CountAs counts the body of a tracked request in an intake for an owner. It does nothing after ReadBody has begun.
func CountAs(r *http.Request, in *Intake, owner string) {
	if b := bodyOf(r); b != nil && b.held == 0 {
		b.in, b.owner = in, owner
	}
}

// bodyOf is what the body of a tracked request holds, nil if it is not tracked.
func bodyOf(r *http.Request) *body {
	b, _ := r.Context().Value(bodyKey{}).(*body)
	return b
}

// begin chooses the room of a body that is about to be read. atMost is the most bytes that it may have.
func (b *body) begin(atMost int64) {
	if b != nil && b.held == 0 && b.in.small != nil && atMost <= MaxSmallBody {
		b.in = b.in.small
	}
}

// free gives back what the body holds.
func (b *body) free() {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.in.free(b.owner, b.held)
		b.held = 0
	}
}

// take counts more bytes, or fewer if n is negative.
func (b *body) take(n int64) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 {
		b.in.free(b.owner, -n)
	} else if err := b.in.take(b.owner, n); err != nil {
		return err
	}
	b.held += n
	return nil
}

// Hold counts bytes of a tracked request whose body is read piece by piece, and not by ReadBody. n is negative to give
// some back. Many goroutines may call it. The error wraps wire.ErrBacklog if there is no room for them.
func Hold(r *http.Request, n int) error { return bodyOf(r).take(int64(n)) }
