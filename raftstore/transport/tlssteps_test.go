package transport

import (
	"io"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
	"github.com/chainstore/chainstore/wire"
)

// fixedMode is a mode at one step.
type fixedMode wire.TLSStep

func (m fixedMode) Step() wire.TLSStep { return wire.TLSStep(m) }
func (m fixedMode) TakesPlain() bool   { return wire.TLSStep(m).Mixed() }

// streamAt is a stream at a step. store is nil for one without certificates.
func streamAt(t *testing.T, self string, store TLS, step wire.TLSStep) *Stream {
	t.Helper()
	listener, advertise, err := Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey(testToken)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{
		Listener: listener, Self: self, Advertise: advertise, Keys: keys(key), Starts: newStarts(t), TLS: store,
		Mode:  fixedMode(step),
		Level: func() uint64 { return 4 }, AddressOf: func(string) string { return "" },
		Addresses: func() []string { return nil }, FailedSyncOf: noFailedSync, MustStop: never,
		Term: func() (uint64, bool) { return 7, true }, Stale: func(err error) { t.Error(err) },
		Failed: func(err error) { t.Error(err) }, Log: hclog.NewNullLogger(),
	})
	s.Open("g")
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
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
