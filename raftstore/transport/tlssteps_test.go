package transport

import (
	"io"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
	"github.com/chainstore/chainstore/wire"
)

// fixedMode is a mode at one step.
type fixedMode wire.TLSStep

func (m fixedMode) Step() wire.TLSStep { return wire.TLSStep(m) }
func (m fixedMode) TakesPlain() bool   { return wire.TLSStep(m) != wire.TLSRequire }
func (m fixedMode) Confirmed() bool    { return true }

// unconfirmed is a mode at one step that no leader has confirmed, of a port that takes no plain text.
type unconfirmed struct{ fixedMode }

func (unconfirmed) TakesPlain() bool { return false }
func (unconfirmed) Confirmed() bool  { return false }

// streamAt is a stream at a step. store is nil for one without certificates.
func streamAt(t *testing.T, self string, store TLS, step wire.TLSStep) *Stream {
	t.Helper()
	return streamIn(t, self, store, fixedMode(step))
}

func streamIn(t *testing.T, self string, store TLS, mode Mode) *Stream {
	t.Helper()
	return streamOf(t, Config{Self: self, TLS: store, Mode: mode, Level: func() uint64 { return 4 }})
}

// TestStepsOfRaft connects masters with and without certificates at each step, and cuts their connections in plain text
// when the step requires TLS.
func TestStepsOfRaft(t *testing.T) {
	authority := certstest.NewAuthority(t)
	open := func(self string, with bool, step wire.TLSStep) *Stream {
		if !with {
			return streamAt(t, self, nil, step)
		}
		return streamAt(t, self, certstest.Open(t, authority, certs.Master, self), step)
	}
	for _, row := range []struct {
		step           wire.TLSStep
		caller, callee bool // they have certificates
		want           string
	}{
		{wire.TLSAccept, true, true, "plain"},
		{wire.TLSAccept, false, true, "plain"},
		{wire.TLSAccept, true, false, "plain"},
		{wire.TLSPrefer, true, true, "secured"},
		{wire.TLSPrefer, false, true, "plain"},
		{wire.TLSPrefer, true, false, "plain"},
		{wire.TLSRequire, true, true, "secured"},
		{wire.TLSRequire, false, true, "refused"},
		{wire.TLSRequire, true, false, "refused"},
	} {
		a, b := open("a", row.caller, row.step), open("b", row.callee, row.step)
		if row.want == "refused" {
			_ = a.refusal(t, b.address())
			continue
		}
		dialled, err := a.Dial(b.address(), 20*time.Second)
		if err != nil {
			t.Errorf("%+v: %v", row, err)
			continue
		}
		in, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dialled.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		var got [5]byte
		if _, err := io.ReadFull(in, got[:]); err != nil || string(got[:]) != "hello" {
			t.Errorf("%+v: %q, %v", row, got, err)
		}
		way := "plain"
		if in.(*conn).isSecured() {
			way = "secured"
		}
		if way != row.want {
			t.Errorf("%+v: %s", row, way)
		}
		b.ChangeTLS(wire.TLSRequire)
		if cut := row.callee && way == "plain"; cut {
			if _, err := in.Read(got[:]); err == nil {
				t.Errorf("%+v: the connection in plain text stays", row)
			}
		} else if _, err := dialled.Write([]byte("again")); err != nil {
			t.Errorf("%+v: the connection is cut: %v", row, err)
		}
	}
}

// TestUnconfirmedRaft checks that a master takes no raft in plain text before a leader has confirmed the step: the
// group may require TLS by now. It calls others over TLS where they speak it, and so comes back.
func TestUnconfirmedRaft(t *testing.T) {
	authority := certstest.NewAuthority(t)
	store := func(self string) TLS { return certstest.Open(t, authority, certs.Master, self) }
	for _, step := range []wire.TLSStep{wire.TLSAccept, wire.TLSPrefer} {
		missed := streamIn(t, "a", store("a"), unconfirmed{fixedMode(step)})
		secured, plain := streamAt(t, "b", store("b"), step), streamAt(t, "c", nil, step)
		bare := streamIn(t, "d", nil, unconfirmed{fixedMode(step)})
		_ = plain.refusal(t, missed.address())
		_ = plain.refusal(t, bare.address())
		required := streamAt(t, "e", store("e"), wire.TLSRequire)
		for _, row := range []struct {
			from, to *Stream
			secured  bool
		}{{missed, secured, true}, {missed, required, true}, {missed, plain, false}, {required, missed, true}} {
			dialled, err := row.from.Dial(row.to.address(), 20*time.Second)
			if err != nil {
				t.Errorf("%s: %s to %s: %v", step, row.from.cfg.Self, row.to.cfg.Self, err)
				continue
			}
			in, err := row.to.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if got := in.(*conn).isSecured(); got != row.secured {
				t.Errorf("%s: %s to %s over TLS: %v", step, row.from.cfg.Self, row.to.cfg.Self, got)
			}
			_ = dialled.Close()
		}
	}
}

// TestCheckTLS tries TLS with the raft ports of other masters, whatever the step is. The member there must be the one
// that is meant.
func TestCheckTLS(t *testing.T) {
	authority := certstest.NewAuthority(t)
	store := func(self string) TLS { return certstest.Open(t, authority, certs.Master, self) }
	for _, step := range []wire.TLSStep{wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire} {
		a, b := streamAt(t, "a", store("a"), step), streamAt(t, "b", store("b"), step)
		plain := streamAt(t, "c", nil, step)
		stranger := streamAt(t, "d", certstest.Open(t, certstest.NewAuthority(t), certs.Master, "d"), step)
		for _, row := range []struct {
			from   *Stream
			member string
			to     *Stream
			ok     bool
		}{
			{a, "b", b, true}, {a, "x", b, false}, {a, "c", plain, false}, {a, "d", stranger, false},
			{plain, "b", b, false},
		} {
			_, hostPort, err := SplitAddress(row.to.address())
			if err != nil {
				t.Fatal(err)
			}
			if err := row.from.CheckTLS(t.Context(), row.member, hostPort); (err == nil) != row.ok {
				t.Errorf("%s: %s tries %s: %v", step, row.from.cfg.Self, row.member, err)
			}
		}
	}
}
