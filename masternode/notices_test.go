package masternode

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// TestMostSpecificNotice checks that a node with a failed sync is not said to have only to be started.
func TestMostSpecificNotice(t *testing.T) {
	notice := func(code, node string) wire.Message { return wire.Message{Code: code, Args: wire.Args{"node": node}} }
	list := noticeList{
		notice(wire.CodeFailedSync, "s1"), notice(wire.CodeStorageSilent, "s1"), notice(wire.CodeStorageSilent, "s2"),
		notice(wire.CodeMasterSilent, "m1"), notice(wire.CodeMasterSilent, "m2"), notice(wire.CodeFailedSync, "m2"),
		notice(wire.CodeStorageInvalid, "s1"), {Code: wire.CodeNoMiner},
	}
	want := noticeList{list[0], list[2], list[3], list[5], list[6], list[7]}
	if got := mostSpecific(list); !reflect.DeepEqual(got, want) || len(list) != 8 {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestTLSNotices checks that plain text is noticed while a group moves to TLS, also after the way back, and a node with
// certificates that the leader asks in plain text.
func TestTLSNotices(t *testing.T) {
	certificate := &wire.Certificate{Identity: "spiffe://x/miner/b"}
	seen := leader.Status{
		TLS:          map[string]*wire.TLSUse{"a": {}, "b": {}, "c": {Secured: true}},
		Certificates: map[string]*wire.Certificate{"b": certificate, "c": certificate},
	}
	for step, want := range map[wire.TLSStep][]string{
		wire.TLSByFlags: nil,
		wire.TLSAccept:  {"tls-plain map[step:accept]"},
		wire.TLSPrefer:  {"tls-plain map[step:prefer]", "tls-not-used map[node:b]"},
		wire.TLSRequire: nil,
	} {
		var l noticeList
		l.addTLS(step, seen)
		var got []string
		for _, m := range l {
			got = append(got, fmt.Sprint(m.Code, " ", m.Args))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", step.Name(), got)
		}
	}
}
