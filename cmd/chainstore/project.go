package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// newProjectCommand is the parent of the commands on projects.
func newProjectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Create and list projects, their tokens and quotas",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newProjectCreateCommand(), newProjectListCommand(), newProjectShowCommand(), newProjectQuotaCommand(),
		newProjectAccessCommand(),
		newProjectTokenCommand(),
	)
	return cmd
}

// newClusterCommand completes a command that takes its arguments to the cluster. names are how its usage calls them,
// asked is what to name where they are others in number.
func newClusterCommand(
	cmd *cobra.Command, r role, asked string, names []string,
	act func(cmd *cobra.Command, c *client.Client, args []string) error,
) *cobra.Command {
	cmd.Args = cobra.NoArgs
	if len(names) > 0 {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) != len(names) {
				usage := strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
				return fmt.Errorf("name %s: %s %s", asked, usage, strings.Join(names, " "))
			}
			return nil
		}
		cmd.Use += " " + strings.Join(names, " ")
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	connect := addConnection(cmd, r)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		return act(cmd, c, args)
	}
	return cmd
}

func newProjectCreateCommand() *cobra.Command {
	var p wire.NewProject
	var quota wire.Quota
	var asJSON bool
	cmd := newClusterCommand(&cobra.Command{
		Use:   "create",
		Short: "Create a project and print its token, which is shown this once",
		Long: `Create a project and print its id and its first token, which may read and append. It takes the admin
token, unless the masters run with
--open-registration: there anyone may.

The token is shown this once: keep it, with --json say:

  chainstore project create sensors --json | jq -r .token > sensors.token`,
	}, asFounder, "one project", []string{"NAME"}, func(cmd *cobra.Command, c *client.Client, args []string) error {
		p.Name = args[0]
		if quota != (wire.Quota{}) {
			p.Quota = &quota
		}
		created, err := c.CreateProject(cmd.Context(), p)
		if errors.Is(err, wire.ErrUnauthorized) {
			return fmt.Errorf("%w: registration is not open here, give --admin-token-file FILE or set %s", err,
				envAdminToken)
		}
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return render.JSON(out, created)
		}
		if _, err := fmt.Fprintf(out, "id     %d\nname   %s\ntoken  %s\n", created.ID, render.Plain(created.Name),
			created.Token); err != nil {
			return err
		}
		return shownOnce(cmd)
	})
	cmd.Flags().BoolVar(&p.Public, "public", false,
		"let everybody who has a token of the cluster read the project's records")
	addQuota(cmd, &quota)
	addJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

// shownOnce says so beside a token, where it does not get into a pipe.
func shownOnce(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), "The token is shown this once: keep it.")
	return err
}

// The flags of a quota.
const (
	flagRecords     = "records-per-second"
	flagBytes       = "bytes-per-second"
	flagRecordBytes = "record-bytes"
)

// addQuota gives a command the flags of a quota.
func addQuota(cmd *cobra.Command, q *wire.Quota) {
	flags := cmd.Flags()
	flags.Uint64Var(&q.RecordsPerSecond, flagRecords, 0, "records that may be appended in a second, 0 for no bound")
	flags.Uint64Var(&q.BytesPerSecond, flagBytes, 0,
		"bytes of payloads that may be appended in a second, 0 for no bound")
	flags.Uint64Var(&q.RecordBytes, flagRecordBytes, 0,
		"bytes that a record may have, 0 for no bound but the cluster's")
}

// projectsPage is how many projects are asked for at a time.
const projectsPage = 500

func newProjectListCommand() *cobra.Command {
	var asJSON bool
	cmd := newClusterCommand(&cobra.Command{
		Use:   "list",
		Short: "List the projects with what they hold and may hold",
	}, asAny, "", nil, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		list := render.NewSheet(cmd.OutOrStdout(), asJSON, "ID", "NAME", "ACCESS", "RECORDS", "QUOTA", "CREATED")
		for cursor, more := "", true; more; {
			page, err := c.Projects(cmd.Context(), cursor, projectsPage)
			if err != nil {
				return err
			}
			for i := range page.Projects {
				p := &page.Projects[i]
				err := list.Add(p, strconv.FormatUint(uint64(p.ID), 10), render.Plain(p.Name), accessText(p.Public),
					strconv.FormatUint(p.Records, 10), quotaText(p.Quota), localTime(p.Created))
				if err != nil {
					return err
				}
			}
			cursor, more = page.Next, page.Next != ""
		}
		return list.Print(1, 4)
	})
	addJSON(cmd, &asJSON, "print one JSON object a line for each project")
	return cmd
}

func newProjectShowCommand() *cobra.Command {
	var asJSON bool
	cmd := newClusterCommand(&cobra.Command{
		Use:   "show",
		Short: "Show a project",
	}, asAny, "one project", []string{"NAME|ID"}, func(cmd *cobra.Command, c *client.Client, args []string) error {
		p, err := c.Project(cmd.Context(), args[0])
		if err != nil {
			return notListed(err)
		}
		return printProject(cmd.OutOrStdout(), p, asJSON)
	})
	addJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

func newProjectQuotaCommand() *cobra.Command {
	var q wire.Quota
	var asJSON bool
	cmd := newClusterCommand(&cobra.Command{
		Use:   "quota",
		Short: "Bound what may be appended to a project",
		Long: `Bound what may be appended to a project. It takes the admin token. What is not given stays as it is; 0
takes a bound away.

A second's worth may come at once. What is over it is refused with 429 and the time to wait for; a record, or a batch,
that is larger than
the quota takes at all is refused with 413.`,
		Example: "  chainstore project quota sensors --records-per-second 100 --record-bytes 4096",
	}, asAdmin, "one project", []string{"NAME|ID"}, func(cmd *cobra.Command, c *client.Client, args []string) error {
		given := func(flag string, value *uint64) *uint64 {
			if cmd.Flags().Changed(flag) {
				return value
			}
			return nil
		}
		change := wire.QuotaChange{
			RecordsPerSecond: given(flagRecords, &q.RecordsPerSecond),
			BytesPerSecond:   given(flagBytes, &q.BytesPerSecond),
			RecordBytes:      given(flagRecordBytes, &q.RecordBytes),
		}
		if change == (wire.QuotaChange{}) {
			return fmt.Errorf("nothing is to be changed: give --%s, --%s or --%s", flagRecords, flagBytes,
				flagRecordBytes)
		}
		p, err := c.ChangeProject(cmd.Context(), args[0], wire.ProjectChange{Quota: &change})
		if err != nil {
			return notListed(err)
		}
		return printProject(cmd.OutOrStdout(), p, asJSON)
	})
	addQuota(cmd, &q)
	addJSON(cmd, &asJSON, "print the project as one JSON object")
	return cmd
}

func newProjectAccessCommand() *cobra.Command {
	var asJSON bool
	cmd := newClusterCommand(&cobra.Command{
		Use:   "access",
		Short: "Make a project's records public or private",
		Long: `Make a project's records public, so that any token of the cluster's projects reads them, or private, so
that only its own do. It takes
the admin token.`,
	}, asAdmin, "one project, and public or private", []string{"NAME|ID", "public|private"},
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			public := args[1] == "public"
			if !public && args[1] != "private" {
				return fmt.Errorf("%q is neither public nor private", args[1])
			}
			p, err := c.ChangeProject(cmd.Context(), args[0], wire.ProjectChange{Public: &public})
			if err != nil {
				return notListed(err)
			}
			return printProject(cmd.OutOrStdout(), p, asJSON)
		})
	addJSON(cmd, &asJSON, "print the project as one JSON object")
	return cmd
}

// notListed adds where to look for what was not found.
func notListed(err error) error {
	if errors.Is(err, wire.ErrNotFound) {
		return fmt.Errorf("%w: 'chainstore project list' lists the projects", err)
	}
	return err
}

func printProject(w io.Writer, p wire.Project, asJSON bool) error {
	if asJSON {
		return render.JSON(w, p)
	}
	return render.Rows(w, [][]string{
		{"id", strconv.FormatUint(uint64(p.ID), 10)}, {"name", render.Plain(p.Name)}, {"access", accessText(p.Public)},
		{"records", strconv.FormatUint(p.Records, 10)}, {"quota", quotaText(p.Quota)},
		{"created", localTime(p.Created)},
	})
}

func accessText(public bool) string {
	if public {
		return "public"
	}
	return "private"
}

// quotaText is a quota for people.
func quotaText(q wire.Quota) string {
	var parts []string
	if q.RecordsPerSecond != 0 {
		parts = append(parts, fmt.Sprintf("%d records/s", q.RecordsPerSecond))
	}
	if q.BytesPerSecond != 0 {
		parts = append(parts, render.Bytes(q.BytesPerSecond)+"/s")
	}
	if q.RecordBytes != 0 {
		parts = append(parts, render.Bytes(q.RecordBytes)+" a record")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
