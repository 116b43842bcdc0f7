// Package architecture checks the rules of docs/architecture.md: which package may import which, and how large one may
// get. It has tests only, and needs no cluster: go test ./internal/architecture.
package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/chainstore/chainstore/"

// mayImport lists, for each folder, the packages of this module that its files may import. A folder includes the
// packages below it that have no entry of their own. TestNoCycles checks that no arrow points up.
var mayImport = map[string][]string{
	"chain":              {},
	"internal/fields":    {},
	"internal/atrest":    {"internal/durable"},
	"internal/boottime":  {},
	"internal/durable":   {"internal/fields"},
	"internal/heap":      {},
	"internal/histogram": {},
	"wire":               {"chain", "internal/fields"},
	"internal/profile":   {"wire"},
	"masterfsm":          {"chain", "internal/fields", "masterfsm/streams", "wire"},
	"masterfsm/streams":  {},
	"raftstore": {"masterfsm", "internal/atrest", "internal/boottime", "internal/durable", "internal/histogram",
		"internal/joining", "raftstore/transport", "wire"},
	"raftstore/transport": {"masterfsm", "internal/durable", "wire"},

	"storagenode":            {"chain", "internal/atrest", "internal/durable", "storagenode", "wire"},
	"storagenode/segment":    {"chain", "internal/atrest", "internal/durable"},
	"storagenode/tiles":      {"chain", "internal/durable", "storagenode/segment"},
	"storagenode/records":    {"chain", "internal/atrest", "internal/durable"},
	"storagenode/blockindex": {"chain", "internal/durable", "storagenode/segment"},
	"storagenode/recordends": {"chain", "internal/durable", "storagenode/blockindex", "storagenode/segment"},
	"storagenode/folder":     {"chain", "internal/durable", "storagenode/segment", "storagenode/tiles", "wire"},
	"storagenode/inbox":      {"chain", "internal/atrest", "internal/durable"},
	"storagenode/transfer":   {"chain", "internal/durable", "wire"},
	"storagenode/audit": {
		"chain", "internal/atrest", "internal/durable", "storagenode/blockindex", "storagenode/folder",
		"storagenode/segment", "storagenode/tiles", "wire",
	},

	"minernode":                  {"chain", "wire"},
	"internal/worker":            {"chain", "internal/durable", "wire"},
	"internal/diskspace":         {"internal/durable", "wire"},
	"internal/exchange":          {"wire"},
	"internal/origin":            {"wire"},
	"internal/signedlog":         {"chain", "wire"},
	"internal/fakecluster":       {"chain", "internal/signedlog", "wire"},
	"internal/certs":             {"internal/durable", "wire"},
	"internal/certs/certstest":   {"internal/certs"},
	"internal/atrest/atresttest": {"internal/atrest", "internal/durable"},
	"internal/joining":           {"wire"},
	"internal/nodeauth":          {"wire"},
	"internal/secrets":           {"internal/durable", "internal/nodeauth", "wire"},
	"internal/oidc":              {"wire"},
	"internal/oidc/oidctest":     {},
	"internal/noderpc": {"chain", "internal/certs", "internal/exchange", "internal/nodeauth", "internal/origin",
		"wire"},
	"client":          {"chain", "internal/exchange", "wire"},
	"verify":          {"chain", "internal/exchange", "wire"},
	"httpapi":         {"chain", "internal/certs", "internal/nodeauth", "internal/profile", "wire"},
	"httpapi/console": {"wire"},
	"httpapi/legacy":  {"httpapi", "masterfsm", "masternode", "wire"},
	"httpapi/masterapi": {
		"chain", "httpapi", "httpapi/console", "httpapi/legacy", "internal/certs", "internal/exchange",
		"internal/nodeauth", "internal/oidc", "internal/origin", "masterfsm", "masternode", "wire",
	},
	"httpapi/workerapi": {"chain", "httpapi", "internal/certs", "internal/nodeauth", "internal/worker", "minernode",
		"storagenode", "wire"},
	"internal/roles": {
		"chain", "internal/atrest", "internal/certs", "internal/diskspace", "internal/durable", "internal/histogram",
		"internal/joining", "internal/nodeauth", "internal/noderpc", "internal/oidc", "internal/secrets",
		"httpapi",
		"masterfsm", "masternode",
		"minernode", "raftstore", "raftstore/transport", "storagenode", "verify", "internal/worker", "wire",
	},
	"internal/devcluster": {"client", "internal/certs", "internal/durable", "internal/roles", "internal/secrets",
		"wire"},
	"cmd": {
		"cmd/chainstore/internal/admin", "cmd/chainstore/internal/cli", "cmd/chainstore/internal/inspect",
		"cmd/chainstore/internal/nodes", "cmd/chainstore/internal/offline", "cmd/chainstore/internal/records",
		"cmd/chainstore/internal/render", "internal/heap",
	},
	"cmd/chainstore/internal/render": {"chain", "masterfsm", "wire"},
	"cmd/chainstore/internal/cli": {
		"client", "cmd/chainstore/internal/render", "internal/certs", "internal/devcluster", "internal/secrets",
	},
	"cmd/chainstore/internal/records": {
		"chain", "client", "cmd/chainstore/internal/cli", "cmd/chainstore/internal/render", "internal/durable", "wire",
	},
	"cmd/chainstore/internal/inspect": {
		"chain", "cmd/chainstore/internal/cli", "cmd/chainstore/internal/render", "masterfsm", "wire",
	},
	"cmd/chainstore/internal/admin": {
		"chain", "cmd/chainstore/internal/cli", "cmd/chainstore/internal/render", "internal/secrets", "wire",
	},
	"cmd/chainstore/internal/offline": {
		"chain", "client", "cmd/chainstore/internal/cli", "cmd/chainstore/internal/render", "internal/atrest",
		"internal/certs", "internal/durable", "internal/roles", "storagenode", "verify", "wire",
	},
	"cmd/chainstore/internal/nodes": {
		"cmd/chainstore/internal/cli", "cmd/chainstore/internal/render", "internal/devcluster", "internal/roles",
	},
	"cmd/chainstore/internal/clitest": {"chain", "internal/fakecluster", "internal/signedlog", "wire"},
	"e2e":                             {},

	"masternode": {"chain", "internal/histogram", "internal/joining", "internal/origin", "masterfsm",
		"masterfsm/streams",
		"masternode/appendstream",
		"masternode/batch", "masternode/leader", "masternode/prover", "masternode/signing", "wire"},
	"masternode/appendstream": {"wire"},
	"masternode/batch":        {},
	"masternode/conformance": {
		"chain", "internal/joining", "internal/signedlog", "masterfsm", "masternode",
		"masternode/internal/masterstest",
		"masternode/leader", "masternode/signing", "wire",
	},
	"masternode/internal/masterstest": {"chain", "internal/signedlog", "masterfsm", "wire"},
	"masternode/leader":               {"chain", "internal/origin", "masterfsm", "masternode/signing", "wire"},
	"masternode/prover":               {"chain", "masterfsm", "masternode/batch", "wire"},
	"masternode/signing":              {"chain", "masterfsm", "wire"},
}

// onlyIn maps a library to the only folder that may import it.
var onlyIn = map[string]string{
	"github.com/hashicorp/raft":       "raftstore",
	"github.com/hashicorp/go-metrics": "raftstore",
	"go.etcd.io/bbolt":                "raftstore",
	"github.com/gin-gonic/gin":        "httpapi",
	"github.com/spf13":                "cmd",
	"flag":                            "cmd",
}

// mayDial lists the folders that may create an HTTP client or transport. Calls between nodes carry tokens, so they all
// use the transport of internal/noderpc. internal/oidc reads public documents of the issuer.
var mayDial = []string{"internal/exchange", "internal/oidc", "verify"}

// dialing lists the names of net/http that are clients or transports, or create them. A pointer type is allowed: it is
// a client that the caller passes in.
var dialing = []string{"Client", "Transport", "DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm"}

// pure lists the folders without I/O, clock, randomness and goroutines.
var pure = []string{"chain", "internal/fields", "masterfsm", "masterfsm/streams"}

// impure lists the packages that a pure folder may not import.
var impure = []string{
	"context", "crypto/rand", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec",
	"path/filepath",
	"runtime", "sync", "sync/atomic", "syscall", "time",
}

// source is a Go file of the module that is not a test.
type source struct {
	folder  string // the longest folder of mayImport that contains it
	path    string
	file    *ast.File
	imports []string
}

func TestArchitecture(t *testing.T) {
	sources := readSources(t)
	seen := map[string]bool{}
	for _, s := range sources {
		seen[s.folder] = true
		for _, path := range s.imports {
			checkOwn(t, s, path)
			for library, home := range onlyIn {
				if (path == library || strings.HasPrefix(path, library+"/")) && !within(s.folder, home) {
					t.Errorf("%s imports %s, which only %s may import", s.path, path, home)
				}
			}
			if slices.Contains(pure, s.folder) && slices.Contains(impure, path) {
				t.Errorf("%s imports %s, and %s is pure", s.path, path, s.folder)
			}
		}
		if slices.Contains(pure, s.folder) {
			ast.Inspect(s.file, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s starts a goroutine, and %s is pure", s.path, s.folder)
				}
				return true
			})
		}
		if s.folder != "cmd" {
			checkNoExit(t, s)
		}
		if !slices.Contains(mayDial, s.folder) {
			checkNoDialing(t, s)
		}
	}
	for folder := range mayImport {
		if !seen[folder] && folder != "e2e" {
			t.Errorf("mayImport has an entry for %s, which has no Go files: delete the entry", folder)
		}
	}
}

func within(folder, home string) bool { return folder == home || strings.HasPrefix(folder, home+"/") }

// checkOwn checks an import of one of our packages against mayImport.
func checkOwn(t *testing.T, s source, path string) {
	t.Helper()
	own, ok := strings.CutPrefix(path, module)
	if !ok {
		return
	}
	target := folderOf(own)
	if target == s.folder ||
		slices.ContainsFunc(mayImport[s.folder], func(f string) bool { return within(target, f) }) {
		return
	}
	t.Errorf("%s imports %s: %s may import %v", s.path, own, s.folder, mayImport[s.folder])
}

// checkNoExit checks that a file outside cmd does not end the process.
func checkNoExit(t *testing.T, s source) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := call.X.(*ast.Ident); ok && (x.Name == "os" && call.Sel.Name == "Exit" || x.Name == "log" &&
			strings.HasPrefix(call.Sel.Name, "Fatal")) {
			t.Errorf("%s ends the process: role code returns errors", s.path)
		}
		return true
	})
}

// checkNoDialing checks that a file outside mayDial creates no HTTP client.
func checkNoDialing(t *testing.T, s source) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if _, pointer := n.(*ast.StarExpr); pointer {
			return false
		}
		name, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := name.X.(*ast.Ident); ok && x.Name == "http" && slices.Contains(dialing, name.Sel.Name) {
			t.Errorf("%s uses http.%s: calls between nodes go through internal/noderpc", s.path, name.Sel.Name)
		}
		return true
	})
}

// folderOf returns the longest folder of mayImport that contains the package, or "".
func folderOf(pkg string) string {
	best := ""
	for folder := range mayImport {
		if within(pkg, folder) && len(folder) > len(best) {
			best = folder
		}
	}
	return best
}

func readSources(t *testing.T) []source {
	t.Helper()
	var sources []source
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root &&
				(strings.HasPrefix(name, ".") || name == "testdata" || strings.HasSuffix(name, "-data")) {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); path != root && err == nil {
				return fs.SkipDir // a separate module, which the product cannot import
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		s := source{folder: folderOf(filepath.ToSlash(filepath.Dir(relative))), path: relative, file: file}
		if s.folder == "" {
			t.Errorf(
				"%s is in a folder without an entry in mayImport; a new folder needs a decision record in docs/adr",
				relative)
			return nil
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		sources = append(sources, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 50 {
		t.Fatalf("only %d files found: the test looks in the wrong place", len(sources))
	}
	return sources
}
