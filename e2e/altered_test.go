package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// alteration changes the statement or the declaration that follows a directive comment //mutant:NAME in the sources.
// The sources themselves do not change: the altered program is built from an overlay. A snippet may call
// alteredTo(NAME), which reports whether the process runs that alteration. If it does not, the original code runs.
type alteration struct {
	directive string
	// code replaces the statement or declaration that follows the directive. $ stands for the original text.
	code string
	// condition is added to the condition of the if statement that follows the directive.
	condition string
	// value replaces the value of the constant that follows the directive, which becomes a variable. $ stands for the
	// original value.
	value string
}

// alterations lists all changes of the altered program. README.md describes the directives.
var alterations = []alteration{
	// The mutants that TestCheckersNotice runs.
	{directive: "confirm-not-found", code: `if !alteredTo("stale") { $ }`},
	{directive: "retried-key", condition: `(!alteredTo("duplicate") || e.offset%2 == 0)`},
	{directive: "retried-submission", condition: `(!alteredTo("duplicate") || a.seq%2 == 0)`},
	{directive: "remembered-key", code: `if alteredTo("diverging") { e.body[0] = byte(alteredPID) }; $`},
	{directive: "found-record", code: `if alteredTo("neighbour") && offset%8 == 7 {
		n.cfg.Ledger.Read(func(s *masterfsm.State) { _, _, encoded, _ = s.Record(block, offset-1) })
	}; $`},
	// The mutant that TestCheckersNoticeTimes runs.
	{directive: "own-clock", condition: `!alteredTo("own-clock")`},
	// The mutants that TestLivenessNotice runs.
	{directive: "scheduled-check", code: `$; if alteredTo("no-checks") { at = w.now.Add(time.Hour) }`},
	{directive: "cut-by-age", code: `if !alteredTo("no-cuts") { $ }`},
	{directive: "counted-checks", code: `$; if alteredTo("miscounted") { f.Integrity.Checks /= 2 }`},
	// Variants that make a test possible or shorter.
	{directive: "recovery-quiet", value: `alteredValue("quick-recovery", $/12, $)`},
	{directive: "snapshot-entries", code: `$; if alteredTo("early-snapshots") { c.SnapshotEntries = 100 }`},
	{directive: "wall-clock", code: `if alteredTo("clock") || alteredTo("own-clock") {
		cfg.Clock = wrongClock
	} else { $ }`},
	{directive: "kernel-boot", code: `$; if alteredTo("reboot") {
		path = filepath.Join(os.Getenv("` + clockEnv + `"), "boot_id")
	}`},
	{directive: "found-nonce", code: `if alteredTo("wrong-nonce") { return j.nonce + 1, j.err }; $`},
	{directive: "take-block", code: `if alteredTo("liar") { take = lieAbout(c, take) }; $`},
	{directive: "storage-status", code: `if alteredTo("liar") { c.JSON(http.StatusOK, s.wireStatus(c, lied()))
		return ` +
		`nil }; $`},
}

// alteredSource is added to each package that an alteration changes. The name of the program selects the alteration.
const alteredSource = `

import (
	"os"
	"path/filepath"
)

var alteredName, alteredPID = filepath.Base(os.Args[0]), os.Getpid()

func alteredTo(name string) bool { return alteredName == name }

func alteredValue[T any](name string, value, original T) T {
	if alteredTo(name) {
		return value
	}
	return original
}
`

// alteredExtra is added to the package with the directive. It holds code that is too long for a snippet.
var alteredExtra = map[string]string{
	// A wall clock that is wrong by as many milliseconds as a file says. The monotonic clock is right, as on a machine
	// whose clock is set. A time.Time with both readings has the seconds since 1885 in 33 bits of its first word.
	"wall-clock": `

import (
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"
)

func wrongClock() time.Time {
	t := time.Now()
	text, _ := os.ReadFile(filepath.Join(os.Getenv("` + clockEnv + `"), strconv.Itoa(alteredPID)))
	wrong, _ := strconv.ParseInt(string(text), 10, 64)
	const shift, mask = 30, (1<<33 - 1) << 30
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall = *wall&^mask | uint64(int64(*wall&mask>>shift)+wrong/1000)<<shift&mask
	return t
}
`,
	// The liar replies that it has every block that arrives in order, but stores none.
	"take-block": `

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode"
)

var lie atomic.Pointer[storagenode.Status]

func lied() (at storagenode.Status) {
	if told := lie.Load(); told != nil {
		at = *told
	}
	return at
}

type taking = func(context.Context, uint64, []byte) (storagenode.Status, error)

func lieAbout(c *gin.Context, take taking) taking {
	return func(ctx context.Context, n uint64, block []byte) (at storagenode.Status, err error) {
		if at = lied(); strings.Contains(c.FullPath(), "inbox") {
			at, err = take(ctx, n, block)
		}
		if b, bad := chain.ParseBlock(block); bad == nil && b.Header.Block == lied().Height {
			at, err = storagenode.Status{Height: n + 1, Hash: b.Header.Hash(), Size: b.Header.Size()}, nil
			lie.Store(&at)
		}
		return at, err
	}
}
`,
}

// altered returns the path of the altered program that runs an alteration. The program is built once for all tests.
func altered(t *testing.T, name string) string {
	t.Helper()
	if !slices.ContainsFunc(alterations, func(a alteration) bool {
		return strings.Contains(a.code+a.condition+a.value, `"`+name+`"`)
	}) {
		t.Fatalf("no alteration checks alteredTo(%q)", name)
	}
	program, err := alteredProgram()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// alteredProgram builds the program with all alterations.
var alteredProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(scratch, "altered-")
	if err != nil {
		return "", err
	}
	places, err := findDirectives("..")
	if err != nil {
		return "", err
	}
	files, err := alter(places)
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range files {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		changed := filepath.Join(dir, fmt.Sprint(len(overlay.Replace), ".go"))
		if err := os.WriteFile(changed, text, 0o600); err != nil {
			return "", err
		}
		overlay.Replace[absolute] = changed
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file, out := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "chainstore")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		return "", err
	}
	return out, buildProgram(out, "-overlay", file)
})

// alter returns the changed and the added files by path. Each directive of the sources must belong to exactly one
// alteration, and each alteration to exactly one directive.
func alter(places map[string][]marked) (map[string][]byte, error) {
	var wrong []error
	changes := map[string][]alteredText{} // by file
	files := map[string][]byte{}
	for _, a := range alterations {
		found := places[a.directive]
		delete(places, a.directive)
		if len(found) != 1 {
			wrong = append(wrong, fmt.Errorf("directive //mutant:%s is in the sources %d times, not once", a.directive,
				len(found)))
			continue
		}
		p := found[0]
		text, err := a.apply(p)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: //mutant:%s: %w", p.path, a.directive, err))
			continue
		}
		changes[p.path] = append(changes[p.path], text)
		folder := filepath.Dir(p.path)
		files[filepath.Join(folder, "altered_e2e.go")] = []byte("package " + p.pkg + alteredSource)
		if extra := alteredExtra[a.directive]; extra != "" {
			files[filepath.Join(folder, "altered_"+strings.ReplaceAll(a.directive, "-", "")+"_e2e.go")] = []byte(
				"package " + p.pkg + extra)
		}
	}
	for name := range places {
		wrong = append(wrong, fmt.Errorf("no alteration uses directive //mutant:%s", name))
	}
	for path, texts := range changes {
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		// Replace from the end, so that earlier offsets stay valid.
		slices.SortFunc(texts, func(a, b alteredText) int { return b.from - a.from })
		for _, text := range texts {
			source = slices.Concat(source[:text.from], []byte(text.text), source[text.to:])
		}
		files[path] = source
	}
	return files, errors.Join(wrong...)
}

// alteredText replaces the bytes of a file between two offsets.
type alteredText struct {
	from, to int
	text     string
}

// apply computes the replacement that an alteration makes at its directive.
func (a alteration) apply(p marked) (alteredText, error) {
	text := func(node ast.Node) (int, int, string) {
		from, to := p.files.Position(node.Pos()).Offset, p.files.Position(node.End()).Offset
		return from, to, string(p.source[from:to])
	}
	switch node := p.node.(type) {
	case ast.Stmt:
		if branch, ok := node.(*ast.IfStmt); ok && a.condition != "" {
			from, to, original := text(branch.Cond)
			return alteredText{from, to, "(" + original + ") && " + a.condition}, nil
		}
		if a.code != "" {
			from, to, original := text(node)
			return alteredText{from, to, strings.ReplaceAll(a.code, "$", original)}, nil
		}
	case *ast.GenDecl:
		spec, ok := node.Specs[0].(*ast.ValueSpec)
		if ok && a.value != "" && len(node.Specs) == 1 && len(spec.Names) == 1 && len(spec.Values) == 1 {
			from, to, _ := text(node)
			_, _, original := text(spec.Values[0])
			return alteredText{from, to, "var " + spec.Names[0].Name + " = " +
				strings.ReplaceAll(a.value, "$", original)}, nil
		}
	}
	return alteredText{}, fmt.Errorf("the alteration does not fit to %T", p.node)
}

// marked is a directive of the sources, and the statement or declaration on the next line.
type marked struct {
	path   string
	pkg    string
	source []byte
	files  *token.FileSet
	node   ast.Node
}

var directiveComment = regexp.MustCompile(`^//mutant:([a-z-]+)$`)

// findDirectives returns the directives of all sources below a folder, by name.
func findDirectives(root string) (map[string][]marked, error) {
	found := map[string][]marked{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(source), "//mutant:") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, group := range file.Comments {
			for _, comment := range group.List {
				m := directiveComment.FindStringSubmatch(comment.Text)
				if m == nil {
					if strings.HasPrefix(comment.Text, "//mutant:") {
						return fmt.Errorf("%s: not a directive: %s", files.Position(comment.Pos()), comment.Text)
					}
					continue
				}
				node := nodeAtLine(files, file, files.Position(comment.Pos()).Line+1)
				if node == nil {
					return fmt.Errorf("%s: no statement or declaration below %s", files.Position(comment.Pos()),
						comment.Text)
				}
				found[m[1]] = append(found[m[1]], marked{path, file.Name.Name, source, files, node})
			}
		}
		return nil
	})
	return found, err
}

// nodeAtLine returns the outermost statement or declaration that begins on a line, or nil.
func nodeAtLine(files *token.FileSet, file *ast.File, line int) (found ast.Node) {
	ast.Inspect(file, func(node ast.Node) bool {
		if found != nil || node == nil {
			return false
		}
		pos := node.Pos()
		if decl, ok := node.(*ast.GenDecl); ok {
			pos = decl.TokPos
		}
		_, isStmt := node.(ast.Stmt)
		_, isDecl := node.(*ast.GenDecl)
		if (isStmt || isDecl) && files.Position(pos).Line == line {
			found = node
		}
		return true
	})
	return found
}

// buildProgram builds chainstore, with the race detector if the tests are built with it.
func buildProgram(out string, flags ...string) error {
	args := append([]string{"build", "-o", out}, flags...)
	if underRace {
		args = append(args, "-race")
	}
	text, err := exec.Command("go", append(args, "../cmd/chainstore")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build chainstore: %w\n%s", err, text)
	}
	return nil
}

// TestDirectives checks that the directives of the sources match the alterations. It does not build the program.
func TestDirectives(t *testing.T) {
	places, err := findDirectives("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alter(maps.Clone(places)); err != nil {
		t.Error(err)
	}
	first := alterations[0].directive
	for name, change := range map[string]func(map[string][]marked){
		"missing": func(p map[string][]marked) { delete(p, first) },
		"twice":   func(p map[string][]marked) { p[first] = append(slices.Clone(p[first]), p[first]...) },
		"unknown": func(p map[string][]marked) { p["unknown"] = p[first] },
	} {
		changed := maps.Clone(places)
		change(changed)
		if _, err := alter(changed); err == nil {
			t.Errorf("a directive that is %s: no error", name)
		}
	}
}
