package main

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/verify/export"
)

// writeExport writes blocks and checkpoints, valid or not, into a file.
func writeExport(t *testing.T, blocks []chain.Block, checkpoints ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chain.export")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := export.NewWriter(f, export.Group{ID: "g"}, nil, checkpoints)
	if err != nil {
		t.Fatal(err)
	}
	v := chain.NewVerifier(chain.Head{})
	for i := range blocks {
		if err := w.Block(&blocks[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Take(&blocks[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(v.Head()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVerifyFileThatNoKeySigned checks that content that no named key has signed is never reported as valid: in the
// text, in the JSON, and by the exit status.
func TestVerifyFileThatNoKeySigned(t *testing.T) {
	const witness = "witness.example/w1+87bdf71b+BN/pzdTnRWByCzToegNS+a9Zoc7+anacV0jA7o+4GnRZ"
	l := newSignedLog(t, 3)
	blocks := clitest.NewLog(5).Blocks // those of the log, and two unsigned ones
	empty := filepath.Join(t.TempDir(), "empty.vkey")
	if err := os.WriteFile(empty, []byte("# no key\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// An export of a folder has no checkpoint.
	unsigned := filepath.Join(t.TempDir(), "unsigned.export")
	if _, _, err := run(t, nil, "export", "--data", newStorageDir(t, 3), "--out", unsigned); err != nil {
		t.Fatal(err)
	}
	spliced := writeExport(t, blocks, l.checkpoint())
	whole := writeExport(t, blocks[:3], l.checkpoint())
	const tail = "--allow-unsigned-tail"
	for _, c := range []struct {
		name   string
		args   []string
		status int
		codes  string // of the findings, in the JSON
		says   string // on standard output, or in the error if nothing could be checked
		ends   string // the last line
	}{
		{"no checkpoint", []string{unsigned, "--key", l.VKey}, 1, "unsigned", "the file holds no signed checkpoint",
			""},
		{"no checkpoint, a witness", []string{unsigned, "--key", l.VKey, "--witness", witness, "--witness-quorum",
			"1"}, 1, "unsigned", "holds no signed checkpoint", ""},
		{"no checkpoint, no quorum", []string{unsigned, "--key", l.VKey, "--witness", witness, "--witness-quorum",
			"0"}, 1, "unsigned", "holds no signed checkpoint", ""},
		{"no checkpoint, a tail allowed", []string{unsigned, "--key", l.VKey, tail}, 1, "unsigned",
			"holds no signed checkpoint", ""},
		{"forged blocks behind", []string{spliced, "--key", l.VKey}, 1, "unsigned", "blocks 3 to 4 (leaves 15 to 24)",
			""},
		{"forged blocks behind, a witness", []string{spliced, "--key", l.VKey, "--witness", witness, tail}, 1,
			"witnesses unsigned", "blocks 0 to 4 (leaves 0 to 24)", ""},
		{"forged blocks behind, allowed", []string{spliced, "--key", l.VKey, tail}, 0, "",
			"blocks 3 to 4 (leaves 15 to 24)",
			"export valid up to block 2; the blocks after it are consistent but not signed"},
		{"signed", []string{whole, "--key", l.VKey}, 0, "", "signed by  chainstore/fake+", "export valid"},
		{"signed, a tail allowed", []string{whole, "--key", l.VKey, tail}, 0, "", "signed by  chainstore/fake+",
			"export valid"},
		{"no key", []string{spliced}, 0, "", "signed by  not checked", "export consistent; no signature was checked"},
		{"no key, no checkpoint", []string{unsigned}, 0, "", "holds no signed checkpoint",
			"export consistent; no signature was checked"},
		{"an empty file of keys", []string{unsigned, "--key", empty}, 2, "", "holds no verifier key", ""},
		{"an empty file of witnesses", []string{whole, "--key", l.VKey, "--witness", empty}, 2, "",
			"holds no verifier key", ""},
		{"a witness and no key", []string{unsigned, "--witness", witness}, 2, "", "name the log's verifier key", ""},
		{"a quorum and no key", []string{unsigned, "--witness-quorum", "0"}, 2, "", "name the log's verifier key", ""},
		{"a tail and no key", []string{spliced, tail}, 2, "", "name the log's verifier key", ""},
	} {
		args := append([]string{"verify", "--file"}, c.args...)
		out, _, err := run(t, nil, args...)
		status := 0
		if err != nil {
			status = cli.ExitStatus(err)
		}
		said := strings.Join(strings.Fields(out), " ") // it is wrapped
		if c.status == 2 && err != nil {
			said = err.Error()
		}
		if status != c.status || !strings.Contains(said, strings.Join(strings.Fields(c.says), " ")) {
			t.Errorf("%s: status %d, %v, %q; want %d and %q", c.name, status, err, out, c.status, c.says)
		}
		if lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n"); c.ends != "" && lines[len(lines)-1] != c.ends {
			t.Errorf("%s: it ends in %q; want %q", c.name, lines[len(lines)-1], c.ends)
		}
		if status != 0 && strings.Contains(out, "valid") {
			t.Errorf("%s: status %d, and it says %q", c.name, status, out)
		}
		out, _, err = run(t, nil, append(args, "--json")...)
		if again := err != nil; again != (c.status != 0) || again && cli.ExitStatus(err) != c.status {
			t.Errorf("%s: with --json: %v; want status %d", c.name, err, c.status)
		}
		if c.status == 2 {
			if out != "" {
				t.Errorf("%s: with --json nothing was checked, and it prints %q", c.name, out)
			}
			continue
		}
		var r struct {
			Valid    *bool                   `json:"valid"`
			Findings []struct{ Code string } `json:"findings"`
			Checked  *bool                   `json:"signatures_checked"`
			Signed   *uint64                 `json:"signed_height"`
			By       []struct {
				SignedBy []string `json:"signed_by"`
			} `json:"checkpoints"`
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Valid == nil || r.Checked == nil || r.Signed == nil {
			t.Errorf("%s: with --json: %v, %q", c.name, err, out)
			continue
		}
		var codes []string
		for _, f := range r.Findings {
			codes = append(codes, f.Code)
		}
		if *r.Valid != (c.status == 0) || strings.Join(codes, " ") != c.codes {
			t.Errorf("%s: with --json: valid %v, findings %q; want %v and %q", c.name, *r.Valid, codes, c.status == 0,
				c.codes)
		}
		if strings.HasPrefix(c.name, "no key") {
			signed := *r.Checked || *r.Signed > 0
			for _, cp := range r.By {
				signed = signed || len(cp.SignedBy) > 0
			}
			if signed {
				t.Errorf("%s: no key was named, and it says that something is signed: %q", c.name, out)
			}
		}
	}
}

// TestVerifyUnsignedTailRefused checks that the flags for signatures are refused for data without signatures.
func TestVerifyUnsignedTailRefused(t *testing.T) {
	l := newSignedLog(t, 3)
	variables := l.layOut(t.TempDir())
	for _, args := range [][]string{
		{"verify", "--data", newStorageDir(t, 3), "--allow-unsigned-tail"},
		{"verify", "--url", variables["LOG_URL"], "--key", l.VKey, "--allow-unsigned-tail"},
		{"verify", "receipt", "x", "--key", l.VKey, "--allow-unsigned-tail"},
	} {
		out, _, err := run(t, nil, args...)
		clitest.MustFail(t, err, "--allow-unsigned-tail")
		if cli.ExitStatus(err) != cli.ExitUnchecked || out != "" {
			t.Errorf("%q: status %d, %q", args, cli.ExitStatus(err), out)
		}
	}
}

// TestVerifyJSONAgreesWithTheStatus checks that the output with --json agrees with the exit status in all cases.
func TestVerifyJSONAgreesWithTheStatus(t *testing.T) {
	l := newSignedLog(t, 3)
	dir := t.TempDir()
	variables := l.layOut(dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	damaged, tiles := newStorageDir(t, 3), newStorageDir(t, 3)
	damage(t, damaged, "record 2 of block 1", "record 2 of block l")
	levels, err := filepath.Glob(filepath.Join(tiles, "tiles", "*"))
	if err != nil || len(levels) == 0 {
		t.Fatal(levels, err)
	}
	level, err := os.ReadFile(levels[0])
	if err != nil {
		t.Fatal(err)
	}
	level[len(level)-1] ^= 1
	if err := os.WriteFile(levels[0], level, 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	strangerKey, err := note.NewEd25519VerifierKey("chainstore/fake", stranger.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		status int
	}{
		{"a folder", []string{"--data", newStorageDir(t, 3)}, 0},
		{"a damaged folder", []string{"--data", damaged}, 1},
		{"a folder with other hashes of the tree", []string{"--data", tiles}, 1},
		{"no folder", []string{"--data", t.TempDir()}, 2},
		{"a log", []string{"--url", variables["LOG_URL"], "--key", l.VKey}, 0},
		{"a log of another key", []string{"--url", variables["LOG_URL"], "--key", strangerKey}, 1},
		{"no log", []string{"--url", variables["LOG_URL"] + "/nowhere", "--key", l.VKey}, 2},
		{"an export of another key", []string{"--file", writeExport(t, l.Blocks, l.checkpoint()), "--key",
			strangerKey}, 1},
		{"no export", []string{"--file", at("payload"), "--key", l.VKey}, 1},
		{"a receipt", []string{"receipt", at("good.receipt"), "--key", l.VKey}, 0},
		{"a receipt of another key", []string{"receipt", at("good.receipt"), "--key", strangerKey}, 1},
		{"another payload", []string{"receipt", at("good.receipt"), "--key", l.VKey, "--payload",
			at("changed.payload")}, 1},
		{"a tlog-proof", []string{"receipt", at("good.proof"), "--key", l.VKey, "--leaf", variables["LEAF"]}, 0},
		{"a tlog-proof of another leaf", []string{"receipt", at("good.proof"), "--key", l.VKey, "--leaf",
			strings.Repeat("00", 32)}, 1},
	} {
		out, _, err := run(t, nil, append(append([]string{"verify"}, c.args...), "--json")...)
		status := 0
		if err != nil {
			status = cli.ExitStatus(err)
		}
		var r struct {
			Valid, Good *bool
			Findings    []any
			Error       string
		}
		if e := json.Unmarshal([]byte(out), &r); e != nil || status != c.status {
			t.Errorf("%s: status %d, %v, %q; want %d", c.name, status, err, out, c.status)
			continue
		}
		verdict := r.Valid
		if c.args[0] == "receipt" {
			verdict = r.Good
		}
		if verdict == nil || *verdict != (c.status == 0) || c.status == 0 && (len(r.Findings) > 0 || r.Error != "") ||
			c.status == 1 && len(r.Findings) == 0 && r.Error == "" || c.status == 2 && r.Error == "" {
			t.Errorf("%s: status %d, %q", c.name, status, out)
		}
	}
}
