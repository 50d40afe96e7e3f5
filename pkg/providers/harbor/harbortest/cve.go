package harbortest

import "time"

// cveList is a list of CVEs that are let pass, of a project or of all.
type cveList struct {
	id, project int64
	items       []cveItem
	expires     *int64
	made        time.Time // of the system's; a project's does not say
}

type cveItem struct {
	ID string `json:"cve_id"`
}

type cveRequest struct {
	Items     []cveItem `json:"items"`
	ExpiresAt *int64    `json:"expires_at"`
	ProjectID int64     `json:"project_id"`
}

type shownCVEs struct {
	CreationTime stamp     `json:"creation_time"`
	ExpiresAt    *int64    `json:"expires_at,omitempty"`
	ID           int64     `json:"id,omitempty"`
	Items        []cveItem `json:"items"`
	ProjectID    int64     `json:"project_id,omitempty"`
	UpdateTime   stamp     `json:"update_time"`
}

func (l *cveList) show() shownCVEs {
	return shownCVEs{
		CreationTime: stamp(l.made), ExpiresAt: l.expires, ID: l.id, Items: append([]cveItem{}, l.items...),
		ProjectID: l.project, UpdateTime: stamp(l.made),
	}
}

// set replaces a list. As Harbor does it by an insertion that may become an
// update, an id is used up each time.
func (l *cveList) set(s *Server, given cveRequest) error {
	seen := map[string]bool{}
	for _, item := range given.Items {
		if seen[item.ID] {
			return internal()
		}
		seen[item.ID] = true
	}
	id := s.next("cve")
	if l.id == 0 {
		l.id = id
	}
	l.items, l.expires = given.Items, given.ExpiresAt
	return nil
}

func (s *Server) systemCVEs() routes {
	return routes{
		"GET /system/CVEAllowlist": s.showSystemCVEs,
		"PUT /system/CVEAllowlist": s.setSystemCVEs,
	}
}

func (s *Server) showSystemCVEs(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	return shown(s.cves.show())
}

// setSystemCVEs replaces the whole list. No robot may.
func (s *Server) setSystemCVEs(c *call) (answer, error) {
	if err := c.inSystem("configuration", "update"); err != nil {
		return answer{}, err
	}
	given, err := decode[cveRequest](c)
	if err != nil {
		return answer{}, err
	}
	if err := s.cves.set(s, given); err != nil {
		return answer{}, err
	}
	s.cves.made = s.now()
	return done()
}
