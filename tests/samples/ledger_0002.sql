-- A ledger that 0.1.0 wrote at revision 0002, before the code called `ask_singly` by another name.
PRAGMA application_id=1263291975;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE assets (
	id INTEGER NOT NULL, 
	task INTEGER NOT NULL, 
	stem TEXT NOT NULL, 
	role TEXT NOT NULL, 
	api_index INTEGER, 
	watermarked BOOLEAN NOT NULL, 
	url TEXT NOT NULL, 
	reason TEXT, 
	incomplete_sha256 TEXT, 
	incomplete_at BIGINT, 
	name TEXT, 
	"key" TEXT, 
	bytes BIGINT, 
	sha256 TEXT, 
	content_type TEXT, 
	width INTEGER, 
	height INTEGER, 
	source_url TEXT, 
	suspect TEXT, 
	PRIMARY KEY (id), 
	CONSTRAINT stored_whole CHECK ((name IS NULL) = (key IS NULL) AND (name IS NULL) = (bytes IS NULL) AND (name IS NULL) = (sha256 IS NULL) AND (name IS NULL) = (content_type IS NULL) AND (name IS NULL) = (source_url IS NULL)), 
	FOREIGN KEY(task) REFERENCES tasks (id) ON DELETE CASCADE, 
	CONSTRAINT assets_identity UNIQUE (task, stem)
);
INSERT INTO "assets" VALUES(1,1,'0','image',NULL,0,'https://cdn.klingai.com/0.png',NULL,NULL,NULL,'0.png','images/generations/2026/09/21/t/0.png',10,'0000000000000000000000000000000000000000000000000000000000000000','image/png',1,1,'https://cdn.klingai.com/0.png',NULL);
INSERT INTO "assets" VALUES(2,2,'0','image',NULL,0,'https://cdn.klingai.com/0.png',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE daemons (
	id TEXT NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	version TEXT NOT NULL, 
	started_at BIGINT NOT NULL, 
	seen_at BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE facts (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "facts" VALUES('first_started_at','1790000000000');
INSERT INTO "facts" VALUES('last_callback_at','1790000000000');
CREATE TABLE history (
	id INTEGER NOT NULL, 
	task INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	event TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(task) REFERENCES tasks (id) ON DELETE CASCADE
);
INSERT INTO "history" VALUES(1,1,1790000000000,'task.recorded','succeeded, found by callback');
INSERT INTO "history" VALUES(2,1,1790000000000,'task.archived','f/manifest.json');
INSERT INTO "history" VALUES(3,2,1790000000000,'task.recorded','succeeded, found by callback');
INSERT INTO "history" VALUES(4,3,1790000000000,'task.recorded','failed, found by callback');
CREATE TABLE holds (
	id INTEGER NOT NULL, 
	account TEXT NOT NULL, 
	stage TEXT NOT NULL, 
	family TEXT NOT NULL, 
	host TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	message TEXT NOT NULL, 
	what_to_do TEXT NOT NULL, 
	since BIGINT NOT NULL, 
	probe_at BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT holds_identity UNIQUE (account, stage, family, host)
);
INSERT INTO "holds" VALUES(1,'default','sweep','','','bucket_missing','gone','Create the bucket, or correct KLING_S3_BUCKET, KLING_S3_ENDPOINT_URL and KLING_S3_REGION.',1790000000000,1790000030000);
CREATE TABLE sweeps (
	account TEXT NOT NULL, 
	family TEXT NOT NULL, 
	last_success_at BIGINT, 
	last_full_at BIGINT, 
	last_page INTEGER, 
	oldest_first BOOLEAN NOT NULL, 
	missed_callbacks BIGINT NOT NULL, 
	lease_token TEXT, 
	lease_until BIGINT, 
	PRIMARY KEY (account, family)
);
CREATE TABLE tasks (
	id INTEGER NOT NULL, 
	account TEXT NOT NULL, 
	task_id TEXT NOT NULL, 
	external_task_id TEXT, 
	family TEXT, 
	family_hint TEXT, 
	result_arrays TEXT NOT NULL, 
	state TEXT NOT NULL, 
	queue TEXT, 
	reason TEXT, 
	message TEXT, 
	attempts INTEGER NOT NULL, 
	held INTEGER NOT NULL, 
	due_at BIGINT, 
	lease_token TEXT, 
	lease_until BIGINT, 
	created_at BIGINT, 
	created_at_from TEXT, 
	updated_at BIGINT, 
	deadline_at BIGINT NOT NULL, 
	first_seen_at BIGINT NOT NULL, 
	confirmed_at BIGINT, 
	asked_at BIGINT, 
	asked INTEGER NOT NULL, 
	ask_singly BOOLEAN NOT NULL, 
	not_found_since BIGINT, 
	discovered_by TEXT NOT NULL, 
	callbacks INTEGER NOT NULL, 
	callback_status TEXT, 
	last_callback_at BIGINT, 
	swept_finished_at BIGINT, 
	asset_host TEXT, 
	document TEXT, 
	request TEXT, 
	manifest_key TEXT, 
	archived_at BIGINT, 
	PRIMARY KEY (id), 
	CONSTRAINT inquire_unconfirmed CHECK ((confirmed_at IS NULL) = (coalesce(queue, '') = 'inquire')), 
	CONSTRAINT work_is_due CHECK ((queue IS NULL) = (due_at IS NULL) OR state = 'lost'), 
	CONSTRAINT archived_whole CHECK ((state = 'archived') = (manifest_key IS NOT NULL) AND (state = 'archived') = (archived_at IS NOT NULL)), 
	CONSTRAINT queue_fits_state CHECK (CASE state WHEN 'archived' THEN queue IS NULL WHEN 'failed' THEN coalesce(queue, 'verify') = 'verify' WHEN 'succeeded' THEN coalesce(queue, '') = 'archive' WHEN 'lost' THEN coalesce(queue, '') = 'archive' WHEN 'running' THEN coalesce(queue, '') = 'verify' WHEN 'buried' THEN coalesce(queue, '') IN ('verify', 'inquire') ELSE coalesce(queue, '') = 'inquire' END), 
	CONSTRAINT queue_known CHECK (queue IN ('verify', 'inquire', 'archive')), 
	CONSTRAINT state_known CHECK (state IN ('reported', 'running', 'succeeded', 'archived', 'failed', 'unknown', 'buried', 'lost')), 
	CONSTRAINT reason_given CHECK (state NOT IN ('buried', 'failed', 'lost') OR reason IS NOT NULL), 
	CONSTRAINT confirmed_whole CHECK (state NOT IN ('running', 'succeeded', 'archived', 'failed', 'lost') OR (family IS NOT NULL AND created_at IS NOT NULL AND confirmed_at IS NOT NULL AND document IS NOT NULL)), 
	CONSTRAINT lease_whole CHECK ((lease_token IS NULL) = (lease_until IS NULL)), 
	CONSTRAINT counts CHECK (attempts >= 0 AND asked >= 0 AND held >= 0 AND callbacks >= 0), 
	CONSTRAINT lease_on_work_only CHECK (lease_token IS NULL OR queue IS NOT NULL), 
	CONSTRAINT tasks_identity UNIQUE (account, task_id)
);
INSERT INTO "tasks" VALUES(1,'default','archived',NULL,'images/generations',NULL,'','archived',NULL,NULL,NULL,1,0,NULL,NULL,NULL,1790000000000,'api',1790000024000,1792592000000,1790000000000,1790000000000,1790000000000,0,0,NULL,'callback',0,NULL,NULL,NULL,'cdn.klingai.com','{"task_id":"archived","task_status":"succeeded","urls":["https://cdn.klingai.com/0.png"]}',NULL,'f/manifest.json',1790000000000);
INSERT INTO "tasks" VALUES(2,'default','succeeded',NULL,'images/generations',NULL,'','succeeded','archive',NULL,NULL,0,0,1790000000000,NULL,NULL,1790000000000,'api',1790000024000,1792592000000,1790000000000,1790000000000,1790000000000,0,0,NULL,'callback',0,NULL,NULL,NULL,'cdn.klingai.com','{"task_id":"succeeded","task_status":"succeeded","urls":["https://cdn.klingai.com/0.png"]}',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(3,'default','failed',NULL,'images/generations',NULL,'','failed',NULL,'failed_upstream','policy',0,0,NULL,NULL,NULL,1790000000000,'api',1790000024000,1792592000000,1790000000000,1790000000000,1790000000000,0,0,NULL,'callback',0,NULL,NULL,NULL,NULL,'{"task_id":"failed","task_status":"failed","urls":[]}',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(4,'default','reported',NULL,NULL,'images/generations','','reported','inquire',NULL,NULL,0,0,1790000000000,NULL,NULL,NULL,NULL,NULL,1792592000000,1790000000000,NULL,NULL,0,0,NULL,'callback',1,'succeeded',1790000000000,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX tasks_by_external ON tasks (account, external_task_id) WHERE external_task_id IS NOT NULL;
CREATE INDEX tasks_finished_unannounced ON tasks (swept_finished_at) WHERE swept_finished_at IS NOT NULL;
CREATE INDEX tasks_by_state ON tasks (state, deadline_at);
CREATE INDEX ix_history_task ON history (task);
CREATE INDEX tasks_by_deadline ON tasks (queue, account, deadline_at, due_at, lease_until, asset_host, confirmed_at) WHERE confirmed_at IS NOT NULL;
CREATE INDEX tasks_by_attempts ON tasks (queue, account, attempts, due_at, lease_until, asset_host, confirmed_at) WHERE confirmed_at IS NOT NULL;
CREATE INDEX tasks_unconfirmed ON tasks (account, first_seen_at, confirmed_at) WHERE confirmed_at IS NULL;
CREATE INDEX tasks_denied ON tasks (first_seen_at, account, confirmed_at, not_found_since) WHERE confirmed_at IS NULL AND not_found_since IS NOT NULL;
CREATE INDEX tasks_by_due ON tasks (queue, account, due_at);
CREATE INDEX tasks_to_match ON tasks (queue, account, ask_singly, due_at);
COMMIT;
