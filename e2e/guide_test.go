package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	guidePath = "../docs/operations.md"
	// guideLimit bounds the time of one block.
	guideLimit = 4 * time.Minute
)

// notRun lists the blocks of the guide that TestOperationsGuide does not run, by their first lines, with the reasons.
// Every other block is marked with the host that it is for.
var notRun = []struct{ first, why string }{
	{"chainstore verify --url https://log.example --key log.vkey --state /var/lib/audit/state.json",
		"the guide has this command with the URL of its own cluster"},
	{`chainstore export --data /var/lib/chainstore/storage --out 2026-06.export \`,
		"TestExportAndImport exports a chain"},
	{`--oidc-issuer https://login.example/realms/main --oidc-audience chainstore \`,
		"flags for an issuer that the reader has; console/signin signs in at a real one"},
	{`--oidc-issuer https://login.microsoftonline.com/TENANT-ID/v2.0 --oidc-audience CLIENT-ID \`, "as above"},
	{`--oidc-issuer https://accounts.google.com --oidc-audience chainstore.example \`, "as above"},
	{`--oidc-issuer https://dex.example --oidc-audience chainstore \`, "as above"},
	{"$ chainstore audit list --since 24h", "it shows output, with an index that another cluster does not have"},
	{"W='witness.example/w1+87bdf71b+BN/pzdTnRWByCzToegNS+a9Zoc7+anacV0jA7o+4GnRZ'",
		"it needs a witness; TestWitnesses runs some"},
	{"chainstore profile --kinds cpu,mutex --seconds 20 --out slow", "it takes 20 s, and needs Go on the machine"},
	{`chainstore at-rest rewrite --data /var/lib/chainstore/storage \`,
		"for a key that has become known; TestAtRest of cmd/chainstore rewrites a folder"},
	{`chainstore at-rest decrypt --data /var/lib/chainstore/master \`,
		"the guide's nodes stay encrypted; TestAtRestOfAMaster of cmd/chainstore decrypts a folder"},
}

// guideBlock is a block of commands in the guide.
type guideBlock struct {
	line  int
	host  string // from the mark after the language; "" for none
	first string // line of its text
	text  string
}

// fence begins or ends a block. Blocks in lists are indented.
var fence = regexp.MustCompile("^( *)```(.*)$")

// readGuide returns the blocks of commands, in their order.
func readGuide(t *testing.T) (blocks []guideBlock) {
	t.Helper()
	data, err := os.ReadFile(guidePath)
	if err != nil {
		t.Fatal(err)
	}
	var b *guideBlock
	indent, within := "", false
	for i, line := range strings.Split(string(data), "\n") {
		mark := fence.FindStringSubmatch(line)
		switch {
		case mark != nil && within:
			if b != nil {
				b.first, _, _ = strings.Cut(b.text, "\n")
				blocks = append(blocks, *b)
			}
			b, within = nil, false
		case mark != nil:
			indent, within = mark[1], true
			language, host, _ := strings.Cut(mark[2], " ")
			if language != "yaml" {
				b = &guideBlock{line: i + 1, host: host}
			}
		case b != nil:
			b.text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	if within {
		t.Fatalf("%s: a block does not end", guidePath)
	}
	return blocks
}

// TestGuideMarks checks that every block of commands in docs/operations.md has either the mark of a host, so that
// TestOperationsGuide runs it, or a reason not to run.
func TestGuideMarks(t *testing.T) {
	left, marked := map[string]bool{}, 0
	for _, n := range notRun {
		left[n.first] = true
	}
	for _, b := range readGuide(t) {
		listed := slices.ContainsFunc(notRun, func(n struct{ first, why string }) bool { return n.first == b.first })
		delete(left, b.first)
		known := b.host == workstation || b.host == eachNode || slices.Contains(guideNodes, b.host)
		switch {
		case b.host == "" && !listed:
			t.Errorf("%s:%d: mark the block with its host, as in \"```sh %s\", or add it to notRun: %s", guidePath,
				b.line, workstation, b.first)
		case b.host != "" && !known:
			t.Errorf("%s:%d: there is no host %q", guidePath, b.line, b.host)
		case b.host != "" && listed:
			t.Errorf("%s:%d: notRun has a block that is run: %s", guidePath, b.line, b.first)
		case b.host != "":
			marked++
		}
	}
	for first := range left {
		t.Errorf("%s has no block that begins with %q: remove it from notRun", guidePath, first)
	}
	if marked < 30 {
		t.Errorf("%d blocks are run", marked)
	}
}

// TestOperationsGuide follows docs/operations.md word for word, as an operator of three machines does: from nothing to
// the first record, and through the replacement of every certificate, secret and token. From the moment an application
// has its token it appends and reads all the time. No request may fail, and every acknowledged record is read back.
func TestOperationsGuide(t *testing.T) {
	needsTime(t, "real processes")
	t.Parallel()
	h := newGuideHosts(t)
	for _, s := range stands {
		t.Logf("%s: %s", s.what, s.by)
	}
	values := map[string]bool{} // all secrets and tokens that there were
	var app *guideApp
	for _, b := range readGuide(t) {
		if b.host == "" {
			continue
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), guideLimit)
		on := []string{b.host}
		if b.host == eachNode {
			on = guideNodes
		}
		for _, name := range on {
			h.run(ctx, name, b)
		}
		cancel()
		t.Logf("%6v  line %d, %s: %s", time.Since(begin).Round(10*time.Millisecond), b.line, b.host, b.first)
		h.collectSecrets(values)
		if app == nil && h.has("shop.token") {
			app = h.startApp()
		}
		if app != nil {
			app.settle()
		}
	}
	if app == nil {
		t.Fatal("the guide has made no token for an application")
	}
	app.end()
	app.readBack()
	for _, node := range guideNodes {
		// As the user of the node. The node runs.
		h.command(node, "runuser", "-u", "chainstore", "--", "chainstore", "verify",
			"--data", "/var/lib/chainstore/storage", "--at-rest-keys", "/etc/chainstore/at-rest.keys")
	}
	h.checkLogs(values)
}

// has reports whether the folder of the guide has a file that is not empty.
func (h *guideHosts) has(name string) bool {
	info, err := os.Stat(h.file(name))
	return err == nil && info.Size() > 0
}

// collectSecrets adds the values in the files of secrets and tokens.
func (h *guideHosts) collectSecrets(values map[string]bool) {
	h.t.Helper()
	for _, pattern := range []string{"*.secret", "*.token", "node*/at-rest.keys", "log.key"} {
		files, err := filepath.Glob(h.file(pattern))
		h.must(err)
		for _, path := range files {
			data, err := os.ReadFile(path)
			h.must(err)
			for _, word := range strings.Fields(string(data)) {
				if len(word) >= 20 {
					values[word] = true
				}
			}
		}
	}
}

// neverLogged are parts of lines that no service may log: a panic, and nodes that refuse each other. Clients try again
// what fails for that, so that it would not show otherwise.
var neverLogged = []string{"panic:", "does not have their secret", "the other side has another cluster token",
	"a node is refused for its certificate"}

// checkLogs checks that no service has logged a secret, a data race or what is in neverLogged, and that all have logs.
func (h *guideHosts) checkLogs(values map[string]bool) {
	h.t.Helper()
	if len(values) < 20 {
		h.t.Errorf("the guide has made %d secrets and tokens", len(values))
	}
	files := h.logFiles()
	if len(files) != 3*len(guideNodes) {
		h.t.Errorf("there are logs of %d services", len(files))
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		h.must(err)
		for value := range values {
			if bytes.Contains(data, []byte(value)) {
				h.t.Errorf("%s has a secret", path)
			}
		}
		for _, report := range racesIn(string(data)) {
			h.t.Errorf("%s: %.3000s", path, report)
		}
		for _, text := range neverLogged {
			if bytes.Contains(data, []byte(text)) {
				h.t.Errorf("%s has %q:\n%s", path, text, tail(path, 60))
			}
		}
	}
}
