package harbortest

// auditEvents are the types of events that Harbor writes into its audit log.
func auditEvents() []string {
	return []string{
		"create_artifact", "delete_artifact", "pull_artifact", "create_project", "delete_project", "delete_repository",
		"login_user", "logout_user", "create_user", "delete_user", "update_user", "create_robot", "delete_robot",
		"update_configuration",
	}
}

func (s *Server) auditLog() routes {
	return routes{"GET /auditlog-exts/events": s.listAuditEvents}
}

func (s *Server) listAuditEvents(c *call) (answer, error) {
	if err := c.inSystem("audit-log", "list"); err != nil {
		return answer{}, err
	}
	type event struct {
		Type string `json:"event_type"`
	}
	var events []event
	for _, e := range auditEvents() {
		events = append(events, event{e})
	}
	return shown(events)
}
