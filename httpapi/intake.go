package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/chainstore/chainstore/wire"
)

// Intake bounds the bytes of bodies that a server holds at a time, in total and for each owner. A body counts from its
// first byte until its request has been answered.
type Intake struct {
	total, share int64

	mu      sync.Mutex // guards the fields below
	held    int64
	byOwner map[string]int64
}

// NewIntake makes an intake of so many bytes in total, of which one owner gets at most a share.
func NewIntake(total, share int64) *Intake {
	return &Intake{total: total, share: share, byOwner: map[string]int64{}}
}

// Held is how many bytes are held now.
func (in *Intake) Held() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
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
		return fmt.Errorf("%w: requests of the same project, or without a token, that are under way hold %d bytes, "+
			"%d are taken at a time; nothing was changed, try again", wire.ErrBacklog, in.byOwner[owner], in.share)
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

// body is what the body of one request holds. Only the goroutine of the request uses it.
type body struct {
	in    *Intake
	owner string
	held  int64
}

// bodyKey is the key of a request's context for its body.
type bodyKey struct{}

// Track counts the body of a request. It belongs to no owner, with the other bodies whose sender is not known yet. The
// request that it returns is the one to read. end must be called when the request has been answered.
func (in *Intake) Track(r *http.Request) (tracked *http.Request, end func()) {
	b := &body{in: in}
	return r.WithContext(context.WithValue(r.Context(), bodyKey{}, b)), b.free
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

// free gives back what the body holds.
func (b *body) free() {
	if b != nil {
		b.in.free(b.owner, b.held)
		b.held = 0
	}
}

// take counts more bytes.
func (b *body) take(n int64) error {
	if b == nil {
		return nil
	}
	if err := b.in.take(b.owner, n); err != nil {
		return err
	}
	b.held += n
	return nil
}
