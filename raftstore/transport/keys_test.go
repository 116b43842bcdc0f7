package transport

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// values are those of a secret that a test changes.
type values struct{ list atomic.Pointer[[]string] }

func newValues(list string) *values {
	v := &values{}
	v.set(list)
	return v
}

func (v *values) set(list string) {
	all := strings.Fields(list)
	v.list.Store(&all)
}

func (v *values) get() []string { return *v.list.Load() }

// rotated opens a stream with these values.
func rotated(t *testing.T, self string, level uint64, v *values) *Stream {
	return openStreamWith(t, newStarts(t), self, "g", KeysOf(v.get), level, func(err error) { t.Error(err) })
}

// meet dials from one stream to another, and returns both ends.
func meet(t *testing.T, from, to *Stream) (near, far net.Conn) {
	t.Helper()
	near, err := from.Dial(to.address(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = to.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// TestHandshakeWithSeveralValues checks that two masters connect if they have one value in common, whichever of them is
// the first, and otherwise do not.
func TestHandshakeWithSeveralValues(t *testing.T) {
	for _, level := range []uint64{0, 1, 4} {
		for _, c := range []struct {
			caller, callee string
			connects       bool
		}{
			{"old", "old", true}, {"old", "old new", true}, {"old new", "old", true}, {"old new", "new old", true},
			{"new old", "old new", true}, {"new", "new old", true}, {"new old", "new", true},
			// Out of order: the callee proves its second value at the second attempt.
			{"old", "new old", true}, {"new", "old new", true},
			{"old new", "new", true}, {"new old", "old", true},
			{"old", "new", false}, {"new", "old", false},
		} {
			t.Run(fmt.Sprint(level, c.caller, " to ", c.callee), func(t *testing.T) {
				a := rotated(t, "a", level, newValues(c.caller))
				b := rotated(t, "b", level, newValues(c.callee))
				if c.connects {
					meet(t, a, b)
					return
				}
				if err := a.refusal(t, b.address()); !strings.Contains(err.Error(), "another cluster token") {
					t.Error(err)
				}
			})
		}
	}
}

// TestStrangersChooseNoValue checks that two masters with one value in common connect although a stranger calls under
// the name of one of them before each of its attempts, and under many others.
func TestStrangersChooseNoValue(t *testing.T) {
	a, b := rotated(t, "a", 4, newValues("new")), rotated(t, "b", 4, newValues("old new"))
	stranger := rotated(t, "a", 4, newValues("wrong"))
	for i := range maxRefused {
		b.notAccepted(fmt.Sprint("m", i), io.EOF)
	}
	for connected := false; !connected; {
		if err := stranger.refusal(t, b.address()); err == nil {
			t.Fatal("the stranger connects")
		}
		near, err := a.Dial(b.address(), time.Second)
		if connected = err == nil; connected {
			_ = near.Close()
		}
	}
}

// TestDroppedValueEndsConnections checks that a connection goes on while its value is accepted, on both sides, and is
// closed once it is not.
func TestDroppedValueEndsConnections(t *testing.T) {
	ours, theirs := newValues("old"), newValues("old")
	a, b := rotated(t, "a", 4, ours), rotated(t, "b", 4, theirs)
	near, far := meet(t, a, b)
	for _, v := range []*values{ours, theirs} {
		v.set("old new")
	}
	for _, v := range []*values{theirs, ours} {
		v.set("new old")
	}
	newer, _ := meet(t, a, b)
	a.CloseUnaccepted()
	b.CloseUnaccepted()
	var got [1]byte
	if _, err := near.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, got[:]); err != nil {
		t.Errorf("a connection under a value that is accepted: %v", err)
	}
	theirs.set("new")
	b.CloseUnaccepted()
	if _, err := near.Read(got[:]); err == nil {
		t.Error("a connection under a dropped value goes on")
	}
	ours.set("new")
	a.CloseUnaccepted()
	if err := newer.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := newer.Read(got[:]); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a connection under the new value: %v", err)
	}
}
