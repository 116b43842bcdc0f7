package roles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/raftstore"
)

func TestReadLogKey(t *testing.T) {
	k, err := signing.NewKey("example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string // in the error, "" for none
	}{
		"good":                {k.Text() + "\n", 0o600, ""},
		"read alone":          {k.Text(), 0o400, ""},
		"the group reads it":  {k.Text(), 0o640, "chmod 600"},
		"everybody reads it":  {k.Text(), 0o604, "chmod 600"},
		"everybody writes it": {k.Text(), 0o602, "chmod 600"},
		"a verifier key":      {k.VerifierKey(), 0o600, "not a private key"},
		"two keys":            {k.Text() + "\n" + k.Text(), 0o600, "one private key"},
		"empty":               {"", 0o600, "not a private key"},
		"too long":            {k.Text() + strings.Repeat("\n", maxKeyFile), 0o600, "at most 4096 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log.key")
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil { // independent of the umask
				t.Fatal(err)
			}
			got, err := readLogKey(path)
			if c.want == "" {
				if err != nil || *got != *k {
					t.Errorf("%v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), "--checkpoint-key") {
				t.Errorf("%v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), strings.SplitN(k.Text(), "+", 5)[4]) {
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, t.TempDir()} {
		if _, err := readLogKey(path); err == nil || !strings.Contains(err.Error(), "a file with one private key") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := readLogKey(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if k, err := readLogKey(""); k != nil || err != nil {
		t.Errorf("none asked for: %v, %v", k, err)
	}
}

// signedBy waits until a master signs, and checks its signature with a verifier key.
func signedBy(t *testing.T, m *Master, vkey string) {
	t.Helper()
	signed := signs(t, m)
	v, err := note.NewVerifier(vkey)
	if err == nil {
		_, err = note.Open(signed, note.VerifierList(v))
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", vkey, err, signed)
	}
}

// signs waits until a master signs, and returns the checkpoint.
func signs(t *testing.T, m *Master) []byte {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		c, err := m.node.Checkpoint(t.Context())
		if err == nil {
			return c.Note
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestLogKeyIsKept checks that the log's key is kept in all situations: its backup can be opened, a recovery of a
// survivor keeps it, and a group that is founded again accepts the backup.
func TestLogKeyIsKept(t *testing.T) {
	quiet := hclog.NewNullLogger()
	ports := freePorts(t, 4)
	key := filepath.Join(t.TempDir(), "log.key")
	s := newSeat(t, ports[0], ports[1], nil)
	s.cfg.Origin = "example.com/kept"
	if _, err := BackupLogKeys(s.cfg.Data, []string{s.cfg.ClusterToken}, nil, quiet); err == nil {
		t.Error("a key of a master that has no group yet")
	}
	m, stop := s.start(t)
	signs(t, m)
	if _, err := BackupLogKeys(s.cfg.Data, []string{s.cfg.ClusterToken}, nil, quiet); err == nil {
		t.Error("the folder of a master that runs")
	}
	stop()

	keys, err := BackupLogKeys(s.cfg.Data, []string{s.cfg.ClusterToken}, nil, quiet)
	if err != nil || len(keys) != 1 || keys[0].Origin() != "example.com/kept" {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	vkey := keys[0].VerifierKey()
	for name, token := range map[string][]string{"none": nil, "another": {"another token"}} {
		if keys, err := BackupLogKeys(s.cfg.Data, token, nil, quiet); err == nil || len(keys) > 0 ||
			!strings.Contains(err.Error(), "cluster token") {
			t.Errorf("token %s: %d keys, %v", name, len(keys), err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := BackupLogKeys(missing, []string{s.cfg.ClusterToken}, nil, quiet); err == nil {
		t.Error("a folder that is not there")
	} else if _, err := os.Stat(missing); err == nil {
		t.Error("it was made")
	}
	if err := os.WriteFile(key, []byte(keys[0].Text()), 0o600); err != nil {
		t.Fatal(err)
	}

	if _, err := RecoverMaster(t.Context(), RecoverConfig{
		Data: s.cfg.Data, Raft: s.cfg.Raft, Secret: []string{s.cfg.ClusterToken}, StorageLost: true,
		Confirm: func(Recovery) error { return nil }, Logger: quiet,
	}); err != nil {
		t.Fatal(err)
	}
	m, stop = s.start(t)
	signedBy(t, m, vkey)
	stop()

	if _, err := RecoverMaster(t.Context(), RecoverConfig{
		Data: s.cfg.Data, Raft: s.cfg.Raft, Secret: []string{s.cfg.ClusterToken}, NewLogKey: true, StorageLost: true,
		Logger: quiet,
		Confirm: func(r Recovery) error {
			if r.Origin != "example.com/kept" || !r.NewLogKey {
				t.Errorf("the plan is %+v", r)
			}
			return nil
		},
	}); err != nil {
		t.Fatal(err)
	}
	s.cfg.Origin = ""
	m, stop = s.start(t)
	if signed, origin := signs(t, m), "chainstore/"+m.store.Member().Group+
		"/3"; !strings.HasPrefix(string(signed), origin+"\n") {
		t.Errorf("another log than %s:\n%s", origin, signed)
	}
	stop()
	s.inStore(t, func(store *raftstore.Store) {
		if err := store.Retire(); err != nil { // the group removes this master
			t.Error(err)
		}
	})
	if keys, err := BackupLogKeys(s.cfg.Data, []string{s.cfg.ClusterToken}, nil, quiet); err != nil || len(keys) != 1 ||
		keys[0].VerifierKey() == vkey {
		t.Errorf("of a master that was removed: %d keys, %v", len(keys), err)
	}

	anew := newSeat(t, ports[2], ports[3], nil)
	anew.cfg.CheckpointKey, anew.cfg.ClusterToken = key, "another token"
	signedBy(t, anew.run(t), vkey)
}
