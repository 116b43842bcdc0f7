package masterapi

import (
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// TestHideSecrets checks that the status shows users nothing about the secrets of the nodes, and all else.
func TestHideSecrets(t *testing.T) {
	use := []wire.SecretUse{{Secret: wire.SecretMasters, Current: "0a1b2c3d"}}
	lost := wire.Message{Code: wire.CodeLocalView}
	notices := []wire.Message{
		{Code: wire.CodeSecretFile, Args: wire.Args{"node": "m-1", "secret": "masters", "detail": "mode 0644"}}, lost,
		{Code: wire.CodeIssuer, Args: wire.Args{"detail": "dial tcp 10.0.0.7:443"}},
		{Code: wire.CodeAtRestPlain, Args: wire.Args{"node": "m-1", "count": uint64(1)}},
		{Code: wire.CodeSecretOld, Args: wire.Args{"secret": "masters", "nodes": []string{"m-1"}}},
	}
	status := wire.Cluster{NoticesCoded: notices, Notices: wire.Texts(notices)}
	status.Masters = []wire.Master{{Secrets: use, AtRest: &wire.AtRest{Key: "0a1b2c3d4e5f6071"}}}
	status.Storages, status.Miners = []wire.Storage{{Secrets: use}}, []wire.Miner{{Secrets: use}}
	hideSecrets(&status)
	if status.Masters[0].AtRest != nil {
		t.Errorf("%+v", status.Masters[0].AtRest)
	}
	if status.Masters[0].Secrets != nil || status.Storages[0].Secrets != nil || status.Miners[0].Secrets != nil {
		t.Errorf("%+v", status)
	}
	if len(status.Notices) != 1 || len(status.NoticesCoded) != 1 || status.Notices[0] != lost.Text() {
		t.Errorf("notices %q, %+v", status.Notices, status.NoticesCoded)
	}
	older := wire.Cluster{Notices: []string{"a text"}} // of a leader before protocol level 2
	if hideSecrets(&older); len(older.Notices) != 1 {
		t.Errorf("%q", older.Notices)
	}
}
