package masternode

import (
	"reflect"
	"testing"

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
