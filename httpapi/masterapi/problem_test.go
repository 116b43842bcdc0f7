package masterapi_test

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// TestProblemsInDocs checks that docs/api.md lists exactly the problem types of wire's table, in the same order, each
// with its status and whether to retry.
func TestProblemsInDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| type | status | retry | |\n|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	lines := strings.Split(table, "\n")
	types := wire.ProblemTypes()
	if len(lines) != len(types) {
		t.Errorf("%d lines for %d types", len(lines), len(types))
	}
	for i, p := range types[:min(len(types), len(lines))] {
		retry := ""
		if p.Retry {
			retry = "yes"
		}
		if want := fmt.Sprintf("| `%s` | %d | %s | ", p.Name, p.Status, retry); !strings.HasPrefix(lines[i], want) {
			t.Errorf("%q, want %q", lines[i], want)
		}
	}
}

// TestProblemsInOpenAPI checks that openapi.yaml lists exactly the problem types of wire's table as the examples of
// Problem.type, and that its responses name only those, each with its status.
func TestProblemsInOpenAPI(t *testing.T) {
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range doc.Components.Schemas["Problem"].Value.Properties["type"].Value.Examples {
		names = append(names, strings.TrimPrefix(e.(string), wire.ProblemBase))
	}
	var want []string
	for _, p := range wire.ProblemTypes() {
		want = append(want, p.Name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("the examples are %q, want %q", names, want)
	}
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	typed := regexp.MustCompile(`properties: \{type: \{enum: \[(.*)\]\}, status: \{const: (\d+)\}\}`)
	answers := typed.FindAllStringSubmatch(string(text), -1)
	if len(answers) < 20 {
		t.Fatalf("only %d answers with a problem found", len(answers))
	}
	for _, a := range answers {
		for _, url := range strings.Split(a[1], ", ") {
			name := path.Base(strings.Trim(url, `"`))
			if p := wire.ProblemNamed(name); p == nil || fmt.Sprint(p.Status) != a[2] {
				t.Errorf("%s with status %s is not in the table", url, a[2])
			}
		}
	}
}
