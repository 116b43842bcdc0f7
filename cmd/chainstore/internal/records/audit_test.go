package records

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/wire/trail"
)

// TestUnreadableActs checks that an act which cannot be read is printed, whatever the filter, that the list continues,
// and that the command fails at its end.
func TestUnreadableActs(t *testing.T) {
	list := []client.AuditEntry{
		{Index: 1, Record: trail.Record{Act: trail.AdminCreate}},
		{Index: 2, Unreadable: "version 2, this program knows 1"},
		{Index: 3, Record: trail.Record{Act: trail.AdminRevoke}},
	}
	broken := errors.New("broken")
	for _, end := range []error{nil, broken} {
		for _, json := range []bool{false, true} {
			acts := func(yield func(client.AuditEntry, error) bool) {
				for _, e := range list {
					if !yield(e, nil) {
						return
					}
				}
				if end != nil {
					yield(client.AuditEntry{}, end)
				}
			}
			var out bytes.Buffer
			err := printActs(&cli.Call{Out: &out, JSON: json}, acts, &auditFilter{act: "admin-revoke"}, 0)
			if !errors.Is(err, errUnreadable) || errors.Is(err, broken) != (end != nil) {
				t.Errorf("the error is %v", err)
			}
			if got := out.String(); !strings.Contains(got, "version 2") || !strings.Contains(got, "admin-revoke") ||
				strings.Contains(got, "admin-create") {
				t.Errorf("the output is %s", got)
			}
			if err := printActs(&cli.Call{Out: &out}, acts, &auditFilter{}, 1); err != nil {
				t.Errorf("up to the limit: %v", err)
			}
		}
	}
}
